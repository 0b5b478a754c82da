"""Training functions of the user's, by name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Function = Callable[[Any], float]

GIVEN: dict[str, Function] = {}
"""Functions that were given as such, by the name that a run's options have for them."""


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
        ValueError: If there is no such file, module or function.
    """
    if text in GIVEN:
        return GIVEN[text]
    place, _, name = text.rpartition(":")
    if not is_function(text):
        raise ValueError(f"{text!r} names no function; give FILE.py:NAME or MODULE:NAME")
    try:
        module = _import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except (FileNotFoundError, ModuleNotFoundError) as error:
        raise ValueError(f"{place} cannot be imported ({error}); check the name") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = ", ".join(n for n, value in vars(module).items() if _is_own(value, module.__name__))
        raise ValueError(f"{place} has no function {name}; it has {known or 'none'}")
    return function  # type: ignore[no-any-return]


def _import_file(path: Path) -> Any:
    """Import a file, which finds the modules beside it as if it were run."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[name] = module  # so that loader processes find what is defined in it
    spec.loader.exec_module(module)
    return module


def _is_own(value: Any, module: str) -> bool:
    return callable(value) and getattr(value, "__module__", "") == module
