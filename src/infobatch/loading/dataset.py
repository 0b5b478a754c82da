"""Samples that carry their index through any collate function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset, default_collate

from infobatch.batch_indices import BatchIndices
from infobatch.scores.columns import IndexArray

Index = int | Sequence[int]


class IndexedDataset(Dataset[tuple[Index, Any]]):
    """Any map-style dataset, each sample paired with the index it was asked for.

    An index i < 0 asks for a repeat of sample ``~i``, which only fills up a batch: the sample is fetched
    and keeps the negative index. No other attribute of the dataset is forwarded; it is ``.dataset``.

    Args:
        dataset: The dataset, with ``__len__`` and ``__getitem__``, and perhaps ``__getitems__``.

    Raises:
        TypeError: If the dataset is not a map-style one.
    """

    def __init__(self, dataset: Any) -> None:
        is_stream = isinstance(dataset, IterableDataset)  # has __getitem__, and it raises
        if is_stream or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise TypeError(
                f"{type(dataset).__name__} is not a map-style dataset (it needs __len__ and "
                "__getitem__); pruning has to ask for samples by index. For a stream of samples with "
                "ids there is infobatch.streams.StreamFilter"
            )
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Index | IndexArray) -> tuple[Index, Any]:
        if isinstance(index, (Sequence, np.ndarray)):  # a batch at once: DataLoader(batch_size=None)
            index = [int(i) for i in index]
            return index, self.dataset[[_without_mark(i) for i in index]]
        return index, self.dataset[_without_mark(index)]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[int, Any]] | tuple[Sequence[int], Any]:
        """The samples of a batch, in pairs; or one pair where the dataset gives the batch as a whole."""
        fetch_many = getattr(self.dataset, "__getitems__", None)
        wanted = [_without_mark(i) for i in indices]
        samples = fetch_many(wanted) if fetch_many else [self.dataset[i] for i in wanted]
        if not isinstance(samples, list):
            return indices, samples
        if len(samples) != len(indices):
            raise ValueError(
                f"__getitems__ of {type(self.dataset).__name__} gave a list of {len(samples)} for "
                f"{len(indices)} indices; it must give one sample for each, or the whole batch as "
                "anything but a list"
            )
        return list(zip(indices, samples, strict=True))


@dataclass(frozen=True)
class Kept:
    """What a collate function returns that drops samples, unreadable ones say: a batch of the others.

    The dropped ones count as trained, without a loss or a visit, and keep their scores. A batch of which
    all are dropped has no mean to train: ``pruner.record(torch.empty(0), indices)`` passes over it.
    Where ranks drop different numbers, their means do not average to that over all samples.

    Args:
        batch: The batch of the samples that are kept.
        kept: Their positions in the list of samples that the collate function was given, (B,), in the
            order of the batch.
    """

    batch: Any
    kept: Sequence[int]


class IndexedCollate:
    """Any collate function, made to take the samples of an :class:`IndexedDataset`.

    Batches are ``(indices, batch)``: the indices as an int64 NumPy array of shape (B,), and what the
    collate function makes of the samples; of a dataset whose ``__getitems__`` gives a whole batch, what
    it makes of that. The indices are NumPy's, because frameworks move tensors to the device. A collate
    function that drops samples returns :class:`Kept`.

    Args:
        collate_fn: The collate function; None for PyTorch's ``default_collate``.
    """

    def __init__(self, collate_fn: Callable[[Any], Any] | None = None) -> None:
        self.collate_fn = default_collate if collate_fn is None else collate_fn

    def __call__(self, pairs: list[tuple[int, Any]] | tuple[Index, Any]) -> tuple[IndexArray, Any]:
        if isinstance(pairs, tuple):  # a whole batch, or with batch_size=None one item
            indices, samples = pairs
        else:
            indices, samples = map(list, zip(*pairs, strict=True))
        batch = self.collate_fn(samples)
        if isinstance(batch, Kept):
            return _kept(np.atleast_1d(np.asarray(indices, np.int64)), batch.kept), batch.batch
        return BatchIndices.of(np.asarray(indices)), batch


def _kept(indices: IndexArray, kept: Sequence[int]) -> BatchIndices:
    """The indices of the samples at the positions ``kept``, and of the others as dropped."""
    places = np.asarray(kept, dtype=np.int64)
    is_kept = np.zeros(len(indices), bool)
    if places.ndim != 1 or (places < 0).any() or (places >= len(indices)).any():
        raise ValueError(
            f"the collate_fn kept {kept!r} of {len(indices)} samples; give Kept the positions of those "
            f"in its batch, from 0 to {len(indices) - 1}"
        )
    is_kept[places] = True
    return BatchIndices.of(indices[places], indices[~is_kept])


def _without_mark(index: int) -> int:
    """The sample that an index stands for, a repeat or not."""
    return index if index >= 0 else ~index
