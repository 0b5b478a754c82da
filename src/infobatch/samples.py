"""Which samples a dataset holds, as far as it tells: how many, and a fingerprint of which they are."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence, Sized
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

_LISTS = ("indices", "ids")
"""Attributes that tell, in a dataset's order, which samples it holds: those of ``Subset`` and of sets
that name their samples."""

_SEQUENCES = (Sequence, np.ndarray, torch.Tensor)


class _Part(NamedTuple):
    """What one list of a dataset told: its length, and a hash of that many of its values."""

    length: int
    hashed: int


class Samples:
    """The samples of a dataset, which scores belong to by their place.

    They are known by the ``indices`` of a ``Subset``, by ``ids``, and by the fingerprint that Hugging
    Face's datasets have, also of datasets within the dataset. A dataset that has none of these tells
    their number alone.

    Args:
        dataset: Any map-style dataset.
        check: Whether other samples than those of a saved state are refused.
    """

    def __init__(self, dataset: Sized, check: bool = True) -> None:
        self._dataset = dataset
        self._check = check
        self._length = len(dataset)
        self._parts = [_part(values) for values in _lists(dataset)]
        # Read once, for it changes with how samples are shown, not only with which they are.
        self._names = list(_names(dataset))

    @property
    def num_samples(self) -> int:
        """How many there are now."""
        return len(self._dataset)

    @property
    def fingerprint(self) -> str | None:
        """A hash of which they are; None for a dataset that does not tell."""
        told = [*map(tuple, self._parts), *self._names]
        return f"{zlib.crc32(repr(told).encode()):08x}" if told else None

    def check_unchanged(self) -> None:
        """Take in samples that have been added at the end.

        Raises:
            ValueError: If some are missing, or there are others in their places.
        """
        num_samples, lists = self.num_samples, list(_lists(self._dataset))
        if num_samples < self._length:
            raise ValueError(
                f"the dataset had {self._length:,} samples and has {num_samples:,}; scores belong to "
                "indices, and which samples are missing is not known. Leave the dataset as it is, or "
                "make a new pruner for the new one"
            )
        now = [_part(values, then.length) for values, then in zip(lists, self._parts, strict=False)]
        if now != self._parts:
            raise ValueError(
                "the dataset has other samples than before under the same indices (its indices or ids "
                "have changed), so that scores would be taken for those of others. Add new samples at "
                "the end, or make a new pruner for a new dataset"
            )
        if num_samples > self._length:
            self._length, self._parts = num_samples, [_part(values) for values in lists]

    def check_saved(self, fingerprint: str | None) -> None:
        """Raise ``ValueError`` if a state was saved with the fingerprint of other samples."""
        mine = self.fingerprint
        if self._check and None not in (fingerprint, mine) and fingerprint != mine:
            raise ValueError(
                f"the checkpoint is of {self._length:,} other samples than the dataset holds (their "
                f"fingerprint is {fingerprint}, here {mine}), so that scores would be taken for those "
                "of others. Make the dataset as then: the same split, by the same seed, as in "
                "random_split(..., generator=torch.Generator().manual_seed(0)). If these are the same "
                "samples in the same order, make the pruner with check_data=False"
            )


def _part(values: Any, length: int | None = None) -> _Part:
    first = np.asarray(values)[:length]
    content = repr(first.tolist()).encode() if first.dtype.hasobject else first.tobytes()
    return _Part(len(first), zlib.crc32(content))


def _lists(dataset: Any) -> Iterator[Any]:
    """The lists that tell which samples a dataset and those within it hold."""
    for each in _datasets(dataset):
        for name in _LISTS:
            values = getattr(each, name, None)
            if isinstance(values, _SEQUENCES) and len(values) == len(each):
                yield values


def _names(dataset: Any) -> Iterator[str]:
    """The fingerprints of Hugging Face's datasets among a dataset and those within it."""
    for each in _datasets(dataset):
        name = getattr(each, "_fingerprint", None)
        if isinstance(name, str):
            yield name


def _datasets(dataset: Any) -> Iterator[Any]:
    """A dataset that has a length, and those that it keeps as attributes, or in lists of them."""
    waiting, seen = [dataset], set()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen or not hasattr(each, "__len__"):
            continue
        seen.add(id(each))
        yield each
        for value in getattr(each, "__dict__", {}).values():
            members = (
                value if isinstance(value, list | tuple) and len(value) <= _MOST_MEMBERS else [value]
            )
            waiting += [member for member in members if _is_dataset(member)]


_MOST_MEMBERS = 1000
"""Longer lists are those of samples, not of datasets."""


def _is_dataset(value: Any) -> bool:
    return isinstance(value, Dataset) or hasattr(value, "_fingerprint")
