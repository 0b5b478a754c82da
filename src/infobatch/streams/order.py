"""What a stream is to a pruner: a sampler of the user's own, of a length that is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class StreamOrder:
    """Stands for the stream where the pruner takes a sampler of the user's own.

    Args:
        begin: Called when an epoch begins.
        end: Called when one is about to end.
        length: Samples that the stream gives on this rank in an epoch on full data.
    """

    def __init__(
        self, begin: Callable[[], None] | None, end: Callable[[], None] | None, length: int
    ) -> None:
        self._begin = begin
        self._end = end
        self._length = length

    def __len__(self) -> int:
        return self._length

    def epoch_begun(self) -> None:
        """Called once an epoch has begun."""
        if self._begin is not None:
            self._begin()

    def epoch_ending(self) -> None:
        """Called when an epoch is about to end."""
        if self._end is not None:
            self._end()

    def __reduce__(self) -> tuple[type[StreamOrder], tuple[Any, ...]]:
        return StreamOrder, (None, None, self._length)  # a copy of the pruner has no filter yet


class StreamBatches(StreamOrder):
    """Stands for it where batches shrink, and the pruner takes a sampler of batches.

    Args:
        begin: See :class:`StreamOrder`; so are ``end`` and ``length``.
        end: Called when one is about to end.
        length: Samples of the stream.
        batch_size: Samples in a batch on full data.

    Attributes:
        sampler: As many indices as the stream has samples.
    """

    def __init__(
        self,
        begin: Callable[[], None] | None,
        end: Callable[[], None] | None,
        length: int,
        batch_size: int,
    ) -> None:
        super().__init__(begin, end, length)
        self.batch_size = batch_size
        self.sampler = range(length)

    def __len__(self) -> int:
        return -(-self._length // self.batch_size)

    def __reduce__(self) -> tuple[type[StreamBatches], tuple[Any, ...]]:
        return StreamBatches, (None, None, self._length, self.batch_size)
