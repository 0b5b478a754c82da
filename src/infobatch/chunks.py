"""Arrays of all samples gone through piece by piece, where a copy of the whole would be large."""

from __future__ import annotations

from collections.abc import Iterator

CHUNK = 1 << 16
"""Samples in a piece, whose copies stay in a processor's cache."""


def chunks(length: int) -> Iterator[slice]:
    """The pieces of an array of some ``length``, one after another."""
    for start in range(0, length, CHUNK):
        yield slice(start, min(start + CHUNK, length))
