"""Batches of a stream whose size changes from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_ROUNDING = 1e-9


@dataclass(frozen=True)
class BatchSize:
    """How large the batches of an epoch are.

    Args:
        mean: Their mean size, at least 1; it need not be whole.
        multiple: They are of so many samples times a whole number, except for the last.
        least: A last batch of fewer samples joins the one before.
    """

    mean: float
    multiple: int = 1
    least: int = 1

    def end(self, number: int) -> int:
        """How many samples the first batches have together, ``number`` of them."""
        return math.ceil(number * self.mean / self.multiple - _ROUNDING) * self.multiple


def in_batches(
    samples: Iterable[tuple[int, T]], size_of: Callable[[int], BatchSize]
) -> Iterator[list[T]]:
    """Cut one pass over a stream evenly into batches.

    A batch is held back until the next one is large enough to stand alone.

    Args:
        samples: Samples, each after the number of the epoch that it is of.
        size_of: The size of an epoch's batches; asked for when its first sample comes.

    Yields:
        Lists of samples. One that an epoch began within ends where the new epoch's first does.
    """
    batch: list[T] = []
    held: list[T] = []
    epoch, size = None, BatchSize(1)
    num_ended = position = 0  # batches and samples of the epoch so far
    for epoch_of_sample, sample in samples:
        if epoch_of_sample != epoch:
            epoch, size = epoch_of_sample, size_of(epoch_of_sample)
            num_ended, position = 0, len(batch)
        batch.append(sample)
        position += 1
        if held and len(batch) >= size.least:
            yield held
            held = []
        if position >= size.end(num_ended + 1):
            num_ended += 1
            held, batch = [*held, *batch], []
    if held and len(batch) < size.least:
        held, batch = [*held, *batch], []
    yield from filter(None, (held, batch))
