"""Functions of the user's, by name: training functions, models and transforms."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

Function = Callable[..., Any]

GIVEN: dict[str, Function] = {}
"""Functions that were given as such, by the name that a run's options have for them."""

_FILES: dict[Path, ModuleType] = {}
"""The files that were imported: each is once, so that all runs of a process have the same functions."""


def is_function(text: str) -> bool:
    """Whether a text names a function: ``FILE.py:NAME`` or ``MODULE:NAME``."""
    place, colon, name = text.rpartition(":")
    return bool(place and colon and name.isidentifier())


def load_function(text: str) -> Function:
    """Import the function that a text names.

    Args:
        text: ``FILE.py:NAME``, or ``MODULE:NAME`` for a module that can be imported.

    Returns:
        The function.

    Raises:
        ValueError: If there is no such file, module or function, or importing it fails.
    """
    if text in GIVEN:
        return GIVEN[text]
    place, _, name = text.rpartition(":")
    if place == "__main__" or "<" in name:
        raise ValueError(
            f"{name} is a function of a Python program or notebook that called compare with it; go on "
            "by the same call there"
        )
    if not is_function(text):
        raise ValueError(f"{text!r} names no function; give FILE.py:NAME or MODULE:NAME")
    module = _import(place)
    function = getattr(module, name, None)
    if not callable(function):
        known = ", ".join(n for n, value in vars(module).items() if _is_own(value, module.__name__))
        raise ValueError(f"{place} has no function {name}; it has {known or 'none'}")
    return function  # type: ignore[no-any-return]


def call_with(function: Function, name: str, offered: Mapping[str, Any], always: str = "") -> Any:
    """Call a function with those arguments, of the ones that are offered, that it names.

    Args:
        function: The function.
        name: Its name, for the errors.
        offered: Arguments by their names.
        always: One of them that is also given to a function with ``**options``; by default none is.

    Returns:
        What the function returns.

    Raises:
        ValueError: If it needs an argument that is not offered, or raises an error.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # of a callable that is not written in Python
        parameters = []
    named = [
        each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    required = [each.name for each in parameters if each.name in named and each.default is each.empty]
    if missing := [each for each in required if each not in offered]:
        raise ValueError(
            f"{name} needs the argument {missing[0]}, and is called with {', '.join(offered)}, as far "
            f"as it names them; give {missing[0]} a default"
        )
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        named.append(always)
    try:
        return function(**{each: value for each, value in offered.items() if each in named})
    except Exception as error:
        raise ValueError(f"{name} fails: {reason_of(error)}") from error


def check_takes(function: Function, name: str, argument: str) -> None:
    """Check that a function can be called with one argument.

    Args:
        function: The function.
        name: Its name, for the error.
        argument: What the argument is called, for the error.

    Raises:
        ValueError: If it takes none, or needs others.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a callable that is not written in Python
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise ValueError(
            f"{name} is called with {argument} alone, but is defined with {signature} ({error}); let "
            f"it take {argument} first, and give all else defaults"
        ) from error


def reason_of(error: Exception) -> str:
    """What an error of a user's code says, and where in it, in a line.

    Args:
        error: The error, as it was caught.
    """
    said = str(error).strip().splitlines() or ["no reason given"]
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _is_users(each.filename)]
    place = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    return f"{type(error).__name__}: {said[0]}{place}"


def _is_users(file: str) -> bool:
    """Whether a file is neither of this package nor of an installed or built-in one."""
    installed = (
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("purelib"),
        str(Path(__file__).parents[1]),
    )
    return not file.startswith(("<", *installed))


def source_of(text: str) -> str:
    """A mark of the source of the function that a text names.

    Args:
        text: See :func:`load_function`.

    Returns:
        The first 12 hexadecimal digits of the SHA-256 of the file that it is imported from, which is
        another where the file is; empty where there is none.

    Raises:
        ValueError: See :func:`load_function`.
    """
    load_function(text)
    file = getattr(_import(text.rpartition(":")[0]), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12] if file else ""


def source_of_given(function: Function, _within: tuple[Function, ...] = ()) -> str:
    """A mark of the source of a function that is given as such; empty where it has none.

    Args:
        function: The function. Its defaults, and what it takes from a function that it is made in, count
            where they are numbers, texts and the like, or functions. What it calls has no mark.
        _within: Functions to which it belongs.
    """
    function = inspect.unwrap(function)
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        return ""
    within = (*_within, function)
    for value in _held_by(function):
        if inspect.isfunction(value) and not any(value is each for each in within):
            text += source_of_given(value, within)
        elif _is_plain(value):
            text += f"\n{value!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _held_by(function: Function) -> Iterator[Any]:
    """The defaults of a function, and what it takes from a function that it is made in."""
    yield from getattr(function, "__defaults__", None) or ()
    yield from (getattr(function, "__kwdefaults__", None) or {}).values()
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # of one that holds nothing yet
            yield cell.cell_contents


def _is_plain(value: Any) -> bool:
    """Whether a value cannot change, and says by its text what it is."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (int, float, complex, str, bytes, type, PurePath))


def _import(place: str) -> ModuleType:
    """Import a file or a module; ``ValueError`` says why that cannot be done."""
    if place.endswith(".py"):
        _check_file(Path(place))
    elif os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # which an installed command does not look in
    try:
        return _import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ModuleNotFoundError as error:
        own = (place, place.partition(".")[0])  # a module, or the package that it is in
        remedy = "check the name" if error.name in own else "install or correct what it imports"
        raise ValueError(f"{place} cannot be imported ({error}); {remedy}") from error
    except SystemExit as error:
        raise ValueError(
            f"{place} ends itself when it is imported (SystemExit: {error}); put what does so, such as "
            'reading a command line, below `if __name__ == "__main__":`'
        ) from error
    except Exception as error:
        raise ValueError(f"{place} cannot be imported ({reason_of(error)}); correct it") from error


def _check_file(path: Path) -> None:
    """Raise ``ValueError`` for a file that is not there, or would hide another module."""
    if not path.is_file():
        raise ValueError(f"{path} cannot be imported (there is no file {path}); check the name")
    there = sys.modules.get(path.stem)
    same = there in _FILES.values() or getattr(there, "__file__", None) == str(path.resolve())
    if there is not None and not same:
        raise ValueError(
            f"{path} would hide the module {path.stem}, which is imported already; give the file "
            "another name"
        )


def _import_file(path: Path) -> ModuleType:
    """Import a file, which finds the modules beside it as if it were run."""
    place = path.resolve()
    if place in _FILES:
        return _FILES[place]
    spec = importlib.util.spec_from_file_location(path.stem, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(place.parent))
    sys.modules[path.stem] = module  # so that loader processes find what is defined in it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    _FILES[place] = module
    return module


def _is_own(value: Any, module: str) -> bool:
    return callable(value) and getattr(value, "__module__", "") == module
