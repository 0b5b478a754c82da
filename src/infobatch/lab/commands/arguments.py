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
from infobatch.noise import NORMS_FROM, NormsFrom

Command = Callable[..., None]


def _unset(metavar: str) -> Any:
    """The marker of an option that may be left out: its words say what then is."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


def _number(kind: type[float] | type[int]) -> Any:
    """How a number is read whose option may be left out: tyro would also read the word None."""

    def read(typed: list[str]) -> float:
        try:
            return kind(typed[0])
        except ValueError:
            whole = "whole " if kind is int else ""
            raise ValueError(f"{typed[0]!r} is no {whole}number, such as 30") from None

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, int | kind),
        str_from_instance=lambda value: [str(value)],
    )


MARKERS: dict[str, Any] = {
    **dict.fromkeys(UNTYPED, tyro.conf.Suppress),
    "data_dir": _unset("PATH"),
    "subset": _unset("FILE"),
    "delta": _unset("FLOAT"),
    "target": _unset("SHARE"),
    "workers": _unset("NUMBER"),
}
"""How some options of the configuration are shown, by their names."""

EVERYDAY = (
    *("task", "data", "data_dir", "model", "epochs", "batch_size", "optimizer", "lr"),
    *("policy", "prune_ratio", "seed", "device", "precision"),
)
"""The options of the configuration that ``--help`` shows."""
HELP, HELP_ALL = ("-h", "--help"), "--help-all"


def _marked(options_class: type[CommonConfig], brief: bool = False) -> type[CommonConfig]:
    """The configuration as the command line shows it: a subclass whose fields have their markers.

    Args:
        options_class: The configuration.
        brief: Show options of every day alone, with the first sentence of their words.
    """
    types = get_type_hints(options_class)
    words_of, marked = _words_of(options_class), []
    for each in fields(options_class):
        hidden = brief and each.name not in EVERYDAY
        if each.default is MISSING and not hidden:
            continue  # options of a task, a class of their own
        words = words_of.get(each.name, "")
        markers = [tyro.conf.arg(help=_first_sentence(words) if brief else words)]
        if hidden:
            markers = [tyro.conf.Suppress]
        elif each.name in MARKERS:
            markers.append(MARKERS[each.name])
        default = field(default=each.default, default_factory=each.default_factory)
        marked.append((each.name, Annotated[(types[each.name], *markers)], default))
    return make_dataclass(options_class.__name__, marked, bases=(options_class,), frozen=True)


def _first_sentence(words: str) -> str:
    return re.split(r"(?<=\.) (?=[A-Z])", words, maxsplit=1)[0]


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

    Help is of the options of every day, or of all with ``--help-all``.

    Args:
        commands: The commands by name. Their signatures and docstrings say what may be typed.
        arguments: The command line's arguments, the command's name first.
        description: What the help says of the program.

    Returns:
        The command with its arguments, to be called with none.
    """
    brief = HELP_ALL not in arguments and not set(HELP).isdisjoint(arguments)
    arguments = [HELP[-1] if each == HELP_ALL else each for each in arguments]
    collected = {name: _collected(command, brief) for name, command in commands.items()}
    call: functools.partial[None] = tyro.extras.subcommand_cli_from_dict(
        collected, prog="infobatch", description=description, args=arguments
    )
    options = call.keywords.get("options")
    if options is None:
        return call
    return functools.partial(call, options=Typed(call.func, arguments, type(options)))


def _collected(command: Command, brief: bool = False) -> Callable[..., functools.partial[None]]:
    """The command for tyro, which gives it with its arguments in place of calling it."""
    types = get_type_hints(command, include_extras=True)

    @functools.wraps(command)
    def collect(**arguments: Any) -> functools.partial[None]:
        return functools.partial(command, **arguments)

    # Read in place of the command's, whose docstring breaks the words of an argument.
    collect.__doc__ = re.sub(r"\n {8,}(?=\S)", " ", inspect.getdoc(command) or "")
    if brief and types.get("options") in CONFIGURED:
        shown = _marked(CONFIGURED[types["options"]], brief)
        types["options"] = Annotated[Typed, tyro.conf.arg(name="", constructor=shown)]
        collect.__doc__ = _with_hint(collect.__doc__, command.__name__)
    collect.__annotations__ = types
    collect.__signature__ = inspect.signature(command)  # type: ignore[attr-defined]
    del collect.__wrapped__
    return collect


def _with_hint(docstring: str, name: str) -> str:
    """The docstring, whose words before the arguments end in where all options are told."""
    words, heading, arguments = docstring.partition("\n\nArgs:")
    return f"{words} `infobatch {name} {HELP_ALL}` lists all options.{heading}{arguments}"


Options = Annotated[Typed, tyro.conf.arg(name="", constructor=_marked(TrainConfig))]
CommonOptions = Annotated[Typed, tyro.conf.arg(name="", constructor=_marked(CommonConfig))]
CONFIGURED: dict[Any, type[CommonConfig]] = {Options: TrainConfig, CommonOptions: CommonConfig}
"""The configuration that each of these is of."""
OptionalPath = Annotated[Path | None, _unset("PATH")]
OptionalFloat = Annotated[float | None, _unset("FLOAT"), _number(float)]
OptionalInt = Annotated[int | None, _unset("INT"), _number(int)]
OptionalNormsFrom = Annotated[NormsFrom | None, _unset("{" + ",".join(NORMS_FROM) + "}")]
RecipeName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE]")]
RecipeNames = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE ...]")]
OutPath = Annotated[Path, tyro.conf.arg(metavar="PATH")]
PositionalPath = tyro.conf.Positional[Path]
Paths = tyro.conf.Positional[tuple[Path, ...]]
Switch = tyro.conf.FlagCreatePairsOff[bool]
