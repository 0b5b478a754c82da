"""The indices that come with a batch: NumPy's, so that frameworks leave them on the host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from infobatch.scores.columns import IndexArray

_NONE: IndexArray = np.empty(0, np.int64)


class BatchIndices(np.ndarray):
    """The indices of a batch's samples, int64 (B,), which stay on the host wherever a batch is sent.

    Attributes:
        dropped: Indices of samples that were fetched for the batch and are not in it, int64. They count
            as trained, without a loss. A part of the indices knows those of the whole batch.
    """

    dropped: IndexArray

    @classmethod
    def of(cls, indices: Iterable[int], dropped: IndexArray | None = None) -> BatchIndices:
        """Indices (B,) of any kind, and those that were dropped."""
        made = np.atleast_1d(np.asarray(indices, dtype=np.int64)).view(cls)
        if dropped is not None:
            made.dropped = np.asarray(dropped)
        return made

    def __array_finalize__(self, source: np.ndarray | None) -> None:
        self.dropped = getattr(source, "dropped", _NONE)

    def to(self, *args: Any, **kwargs: Any) -> BatchIndices:
        """The indices themselves, so that a loop may send all of a batch to the device."""
        return self

    cuda = to

    def __reduce__(self) -> tuple[Any, ...]:
        """For a worker process, which an array's own pickle would have forget what was dropped."""
        return BatchIndices.of, (np.asarray(self), self.dropped)


def dropped_from(indices: IndexArray) -> IndexArray:
    """What was dropped from a batch with these indices; nothing if they are a plain array."""
    return indices.dropped if isinstance(indices, BatchIndices) else _NONE
