"""Choices by name, with near matches for those that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def choose(kind: str, name: str, choices: Mapping[str, T]) -> T:
    """The choice of a name.

    Args:
        kind: What is chosen, for the error: ``"policy"``, say.
        name: The name that was given.
        choices: What there is, by name.

    Returns:
        ``choices[name]``.

    Raises:
        ValueError: If there is no such name; it lists near ones, or else all.
    """
    if name in choices:
        return choices[name]
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if near:
        raise ValueError(f"there is no {kind} {name!r}; did you mean {' or '.join(near)}?")
    raise ValueError(f"there is no {kind} {name!r}; there are: {', '.join(choices)}")
