"""Which samples a dataset holds, as far as it tells: how many, and a fingerprint of which they are."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

_LISTS = ("indices", "ids")
"""Attributes that tell, in a dataset's order, which samples it holds: those of ``Subset`` and of sets
that name their samples."""

_MOST_MEMBERS = 1000
"""Longer lists are those of samples, not of datasets."""

_CHUNK = 10_000
"""Ids that are read at once."""


class _Part(NamedTuple):
    """What one list told: the place of its first sample in the dataset, and a hash of so many values."""

    start: int
    length: int
    hashed: int


class _Member(NamedTuple):
    """A dataset that another is made of: its name in that, and the place of its first sample there."""

    name: str
    start: int
    dataset: Any
    length: int


class Samples:
    """The samples of a dataset, which scores belong to by their place.

    They are known by lists of one integer or string for each, the ``indices`` of a ``Subset`` and
    ``ids``, and by the fingerprint that Hugging Face's datasets have; also by those of the datasets that
    the dataset is made of. It is made of one as long as itself, of several whose lengths add up to its
    own, and, where it tells ``indices``, of a longer one. Others within it, a pool to draw negatives
    from, say, are not its samples, and may change at any time. A dataset that has no such list tells the
    number of its samples alone.

    Args:
        dataset: Any map-style dataset.
        check: Whether the dataset is asked which samples it holds, so that others than before, or than
            those of a saved state, are refused. Otherwise only their number counts.
    """

    def __init__(self, dataset: Sized, check: bool = True) -> None:
        self._dataset = dataset
        self._check = check
        self._read()

    @property
    def num_samples(self) -> int:
        """How many there are now."""
        return len(self._dataset)

    @property
    def fingerprint(self) -> str | None:
        """A hash of which they are; None for a dataset that does not tell, or is not asked."""
        # Names of attributes have no part in it: a wrapper about the same samples changes nothing.
        told = [*map(tuple, self._parts.values()), *self._names]
        return f"{zlib.crc32(repr(told).encode()):08x}" if told else None

    def check_unchanged(self) -> None:
        """Take in samples that have been added at the end.

        Raises:
            ValueError: If some are missing, or there are others in their places.
        """
        num_samples = self.num_samples
        if num_samples < self._length:
            raise ValueError(
                f"the dataset had {self._length:,} samples and has {num_samples:,}; scores belong to "
                "indices, and which samples are missing is not known. Leave the dataset as it is, or "
                "make a new pruner for the new one"
            )
        before = self._parts
        now = _parts(self._dataset, {name: part.length for name, part in before.items()})
        changed = next((name for name, part in now.items() if part != before[name]), None)
        if changed is not None:
            raise ValueError(
                "the dataset has other samples than before under the same indices (its "
                f"{changed} have changed), so that scores would be taken for those of others. Add new "
                "samples at the end, or make a new pruner for a new dataset. If these do not say which "
                "samples it holds, make the pruner with check_data=False"
            )
        if num_samples > self._length:
            self._read()

    def check_saved(self, fingerprint: str | None) -> None:
        """Raise ``ValueError`` if a state was saved with the fingerprint of other samples."""
        mine = self.fingerprint
        if None not in (fingerprint, mine) and fingerprint != mine:
            raise ValueError(
                f"the checkpoint is of {self._length:,} other samples than the dataset holds (their "
                f"fingerprint is {fingerprint}, here {mine}), so that scores would be taken for those "
                "of others. Make the dataset as then: the same split, by the same seed, as in "
                "random_split(..., generator=torch.Generator().manual_seed(0)). If these are the same "
                "samples in the same order, make the pruner with check_data=False"
            )

    def _read(self) -> None:
        self._length = self.num_samples
        self._parts = _parts(self._dataset) if self._check else {}
        # Not read again while there are as many: it changes with how samples are shown, too.
        self._names = list(_names(self._dataset)) if self._check else []


# -- What a dataset tells ------------------------------------------------------------------------------


def length_of(dataset: Sized) -> int:
    """N, the samples of a map-style dataset. ``TypeError`` for anything else."""
    kind = type(dataset).__name__
    if isinstance(dataset, DataLoader):
        raise TypeError(
            f"dataset is a {kind}; give the dataset alone, and make the loader by "
            "pruner.loader(batch_size, ...), which takes the options of DataLoader"
        )
    if isinstance(dataset, (str, bytes, Path)):
        raise TypeError(f"dataset is the {kind} {str(dataset)[:40]!r}; give the dataset, not its name")
    try:
        return len(dataset)
    except (TypeError, NotImplementedError) as error:
        raise TypeError(
            f"dataset is a {kind}, which does not tell how many samples it has, and pruning keeps a "
            "score for each; give a dataset with __len__, or for a stream DynamicPruner(SampleIds.of("
            "stream, key), ...) and a StreamFilter, both of infobatch.streams"
        ) from error


def _parts(dataset: Any, lengths: Mapping[str, int] | None = None) -> dict[str, _Part]:
    """What its lists tell, by their names; of those in ``lengths`` alone, as many first values."""
    parts = {}
    for member in _datasets(dataset) if lengths is None or lengths else ():
        for name in _LISTS:
            path = member.name + name
            values = _values(member.dataset, name, member.length)
            if values is None or (lengths is not None and path not in lengths):
                continue
            length = len(values) if lengths is None else min(lengths[path], len(values))
            hashed = _hash(values, length)
            if hashed is not None:
                parts[path] = _Part(member.start, length, hashed)
    return parts


def _names(dataset: Any) -> Iterator[str]:
    """The fingerprints of Hugging Face's datasets among a dataset and those that it is made of."""
    for member in _datasets(dataset):
        name = _attribute(member.dataset, "_fingerprint")
        if isinstance(name, str):
            yield name


def _datasets(dataset: Any) -> Iterator[_Member]:
    """A dataset and all that it is made of, named by the way to them, ``inner.dataset.``, say."""
    waiting, seen = [_Member("", 0, dataset, len(dataset))], set()
    while waiting:
        each = waiting.pop(0)
        if id(each.dataset) in seen:
            continue
        seen.add(id(each.dataset))
        yield each
        waiting += [
            _Member(f"{each.name}{name}.", each.start + start, inner, length)
            for name, start, inner, length in _members(each.dataset, each.length)
        ]


def _members(dataset: Any, length: int) -> Iterator[_Member]:
    """What a dataset of this length is made of, as the lengths of its attributes tell."""
    is_part = _values(dataset, "indices", length) is not None
    for name, value in getattr(dataset, "__dict__", {}).items():
        if isinstance(value, list | tuple):
            yield from _listed(name, value, length)
            continue
        its_length = _length(value)
        if its_length == length or (is_part and its_length > length):
            yield _Member(name, 0, value, its_length)


def _listed(name: str, values: Sequence[Any], length: int) -> Iterator[_Member]:
    """Those of a list that a dataset is made of: all, if they are it in a row, else each as long."""
    if len(values) > _MOST_MEMBERS:
        return
    lengths = [_length(each) for each in values]
    in_a_row, start = min(lengths, default=-1) >= 0 and sum(lengths) == length, 0
    for place, (each, its_length) in enumerate(zip(values, lengths, strict=True)):
        if in_a_row or its_length == length:
            yield _Member(f"{name}.{place}", start, each, its_length)
        start += its_length if in_a_row else 0


def _length(value: Any) -> int:
    """The length of a dataset; -1 for one without, and for anything else."""
    if not isinstance(value, Dataset) and _attribute(value, "_fingerprint") is None:
        return -1
    try:
        return len(value)
    except (TypeError, NotImplementedError):
        return -1


# -- Lists of integers or strings ----------------------------------------------------------------------


def _values(dataset: Any, name: str, length: int) -> Sequence[Any] | np.ndarray | None:
    """An attribute that has one value for each of so many samples, on the host; None for any other."""
    values = _attribute(dataset, name)
    if isinstance(values, torch.Tensor | np.ndarray) and values.ndim != 1:
        return None
    if isinstance(values, torch.Tensor):
        values = None if values.is_floating_point() or values.is_complex() else values.cpu().numpy()
    return values if isinstance(values, Sequence | np.ndarray) and len(values) == length else None


def _attribute(dataset: Any, name: str) -> Any:
    """An attribute of a dataset; None also where its own way of looking it up raises anything."""
    try:
        return getattr(dataset, name, None)
    except Exception:
        return None


def _hash(values: Sequence[Any] | np.ndarray, length: int) -> int | None:
    """A hash of the first ``length`` values, the same whatever holds them; None if they are no ids."""
    hashed = 0
    for chunk in _chunks(values, length):
        content = _content(chunk)
        if content is None:
            return None
        hashed = zlib.crc32(content, hashed)
    return hashed


def _chunks(values: Sequence[Any] | np.ndarray, length: int) -> Iterator[list[Any] | np.ndarray]:
    if isinstance(values, np.ndarray):
        for begin in range(0, length, _CHUNK):
            yield values[begin : min(begin + _CHUNK, length)]
    else:
        left = islice(values, length)
        while chunk := list(islice(left, _CHUNK)):
            yield chunk


def _content(values: list[Any] | np.ndarray) -> bytes | None:
    """Ids as bytes; None if they are not all integers or strings."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind in "iu":
            return values.astype(np.int64).tobytes()
        values = values.tolist()
    kinds = set(map(type, values))
    if bool in kinds or not all(issubclass(kind, int | np.integer | str | bytes) for kind in kinds):
        return None
    if all(issubclass(kind, int | np.integer) for kind in kinds):
        try:
            return array("q", values).tobytes()
        except OverflowError:  # written out, then
            pass
    texts = (value if isinstance(value, str) else repr(value) for value in values)
    return "".join(f"{text}\0" for text in texts).encode("utf-8", "surrogatepass")
