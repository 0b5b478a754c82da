"""What a stream is to a pruner: a sampler of the user's own, of a length that is known."""

from __future__ import annotations

from collections.abc import Callable


class StreamOrder:
    """Stands for the stream where the pruner takes a sampler of the user's own.

    Args:
        begin: Called when an epoch begins.
        length: Samples that the stream gives on this rank in an epoch on full data.
    """

    def __init__(self, begin: Callable[[], None] | None, length: int) -> None:
        self._begin = begin
        self._length = length

    def __len__(self) -> int:
        return self._length

    def epoch_begun(self) -> None:
        """Called once an epoch has begun."""
        if self._begin is not None:
            self._begin()

    def __reduce__(self) -> tuple[type[StreamOrder], tuple[None, int]]:
        return StreamOrder, (None, self._length)  # a copy of the pruner has no filter yet


class StreamBatches(StreamOrder):
    """Stands for it where batches shrink, and the pruner takes a sampler of batches.

    Args:
        begin: See :class:`StreamOrder`; so is ``length``.
        length: Samples of the stream.
        batch_size: Samples in a batch on full data.

    Attributes:
        sampler: As many indices as the stream has samples.
    """

    def __init__(self, begin: Callable[[], None] | None, length: int, batch_size: int) -> None:
        super().__init__(begin, length)
        self.batch_size = batch_size
        self.sampler = range(length)

    def __len__(self) -> int:
        return -(-self._length // self.batch_size)

    def __reduce__(self) -> tuple[type[StreamBatches], tuple[None, int, int]]:  # type: ignore[override]
        return StreamBatches, (None, self._length, self.batch_size)
