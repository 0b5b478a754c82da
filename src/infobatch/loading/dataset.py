"""Samples that carry their index through any collate function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, default_collate

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
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
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

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[int, Any]]:
        fetch_many = getattr(self.dataset, "__getitems__", None)
        wanted = [_without_mark(i) for i in indices]
        samples = fetch_many(wanted) if fetch_many else [self.dataset[i] for i in wanted]
        return list(zip(indices, samples, strict=True))


class IndexedCollate:
    """Any collate function, made to take the samples of an :class:`IndexedDataset`.

    Batches are ``(indices, batch)``: the indices as an int64 NumPy array of shape (B,), and what the
    collate function makes of the samples. The indices are NumPy's, because frameworks move tensors to
    the device.

    Args:
        collate_fn: The collate function; None for PyTorch's ``default_collate``.
    """

    def __init__(self, collate_fn: Callable[[Any], Any] | None = None) -> None:
        self.collate_fn = default_collate if collate_fn is None else collate_fn

    def __call__(self, pairs: list[tuple[int, Any]] | tuple[Index, Any]) -> tuple[IndexArray, Any]:
        if isinstance(pairs, tuple):  # batch_size=None: one item, not a list of them
            index, sample = pairs
            return np.atleast_1d(np.asarray(index, dtype=np.int64)), self.collate_fn(sample)
        indices, samples = zip(*pairs, strict=True)
        return np.array(indices, dtype=np.int64), self.collate_fn(list(samples))


def _without_mark(index: int) -> int:
    """The sample that an index stands for, a repeat or not."""
    return index if index >= 0 else ~index
