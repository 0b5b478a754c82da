"""How the options and arguments of the commands are typed."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import docstring_parser
import tyro

from infobatch.lab.config.train import UNTYPED, CommonConfig, TrainConfig

Command = Callable[..., None]

MARKERS: dict[str, Any] = {
    **dict.fromkeys(UNTYPED, tyro.conf.Suppress),
    "data_dir": tyro.conf.arg(metavar="PATH"),
    "subset": tyro.conf.arg(metavar="FILE"),
    "target": tyro.conf.arg(metavar="SHARE"),
    "workers": tyro.conf.arg(metavar="NUMBER"),
}
"""How some options of the configuration are shown, by their names."""


def _marked(options_class: type[CommonConfig]) -> type[CommonConfig]:
    """The configuration as the command line shows it: a subclass whose fields have their markers."""
    types = get_type_hints(options_class)
    words_of, marked = _words_of(options_class), []
    for each in fields(options_class):
        if each.default is MISSING:
            continue  # options of a task, a class of their own
        words = tyro.conf.arg(help=words_of.get(each.name))
        markers = (words, MARKERS[each.name]) if each.name in MARKERS else (words,)
        marked.append((each.name, Annotated[(types[each.name], *markers)], field(default=each.default)))
    return make_dataclass(options_class.__name__, marked, bases=(options_class,), frozen=True)


def _words_of(options_class: type) -> dict[str, str]:
    """What the docstrings say of each option, as one line: tyro would keep the breaks of the source."""
    if options_class is object:
        return {}
    said = docstring_parser.parse_from_object(options_class).params
    own = {each.arg_name: " ".join((each.description or "").split()) for each in said}
    inherited: dict[str, str] = {}
    for base in reversed(options_class.__bases__):
        inherited |= _words_of(base)
    return inherited | own


class Typed:
    """The configuration's options as they were typed, to be put over any configuration."""

    def __init__(
        self, command: Command, arguments: Sequence[str], options_class: type[CommonConfig]
    ) -> None:
        """Made by :func:`parse`.

        Args:
            command: The command that was typed.
            arguments: All arguments of the command line, the command's name first.
            options_class: The class whose fields are the command's options, from :func:`_marked`.
        """
        self.arguments = tuple(arguments)
        self._command = command
        self._options_class = options_class

    def over(self, base: TrainConfig) -> TrainConfig:
        """A configuration with the typed options in place of its own.

        Args:
            base: The configuration that is taken where nothing was typed.

        Returns:
            The configuration; what differs from ``base`` was typed.
        """
        names = [each.name for each in fields(self._options_class)]
        default = self._options_class(**{name: getattr(base, name) for name in names})
        command = functools.partial(_collected(self._command), options=default)
        options = tyro.cli(command, args=self.arguments[1:]).keywords["options"]
        return replace(base, **{name: getattr(options, name) for name in names})


def parse(commands: Mapping[str, Command], arguments: Sequence[str], description: str) -> Command:
    """Read a command line; help and errors are printed, and end the program.

    Args:
        commands: The commands by name. Their signatures and docstrings say what may be typed.
        arguments: The command line's arguments, the command's name first.
        description: What the help says of the program.

    Returns:
        The command with its arguments, to be called with none.
    """
    collected = {name: _collected(command) for name, command in commands.items()}
    call: functools.partial[None] = tyro.extras.subcommand_cli_from_dict(
        collected, prog="infobatch", description=description, args=arguments
    )
    options = call.keywords.get("options")
    if options is None:
        return call
    return functools.partial(call, options=Typed(call.func, arguments, type(options)))


def _collected(command: Command) -> Callable[..., functools.partial[None]]:
    """The command for tyro, which gives it with its arguments in place of calling it."""

    @functools.wraps(command)
    def collect(**arguments: Any) -> functools.partial[None]:
        return functools.partial(command, **arguments)

    # Read in place of the command's, whose docstring breaks the words of an argument.
    collect.__doc__ = re.sub(r"\n {8,}(?=\S)", " ", inspect.getdoc(command) or "")
    collect.__annotations__ = get_type_hints(command, include_extras=True)
    collect.__signature__ = inspect.signature(command)  # type: ignore[attr-defined]
    del collect.__wrapped__
    return collect


Options = Annotated[Typed, tyro.conf.arg(name="", constructor=_marked(TrainConfig))]
CommonOptions = Annotated[Typed, tyro.conf.arg(name="", constructor=_marked(CommonConfig))]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
RecipeName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE]")]
RecipeNames = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE ...]")]
OutPath = Annotated[Path, tyro.conf.arg(metavar="PATH")]
PositionalPath = tyro.conf.Positional[Path]
Paths = tyro.conf.Positional[tuple[Path, ...]]
Switch = tyro.conf.FlagCreatePairsOff[bool]
