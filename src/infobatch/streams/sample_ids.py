"""Numbers for samples that are known by an id: a key of a shard, a row's identifier."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

Key = str | int | Callable[[Any], Any]
"""Where a sample has its id: the name or the position of an entry, or a function of the sample."""


class SampleIds:
    """Numbers 0..N-1 for the N ids of a stream, strings or integers of any size: 8 bytes a sample.

    An id's number is the place of its 64-bit hash among all of them: it depends on which ids there are,
    not on the order in which they were read. Save it beside the checkpoints, for scores belong to
    numbers. ``hashes``: uint64 (N,), rising.
    """

    def __init__(self, hashes: np.ndarray) -> None:
        self._hashes = hashes

    @classmethod
    def of(cls, stream: Iterable[Any], key: Key | None = None) -> SampleIds:
        """Of all samples of ``stream``, in one pass that decodes none; ``key``: None if it gives ids."""
        id_of: Callable[[Any], Any] = (lambda sample: sample) if key is None else id_getter(key)
        hashes = np.array(array("Q", (hash_of(id_of(sample)) for sample in stream)), np.uint64)
        if len(hashes) == 0:
            raise ValueError("the stream gives no samples, so that there are no ids; check its shards")
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        if len(same):
            first, second = order[same[0]], order[same[0] + 1]
            raise ValueError(
                f"{len(same):,} of the stream's {len(hashes):,} ids have come before: samples {first:,} "
                f"and {second:,}, counted from 0, have the same. Scores belong to ids, so read each "
                "sample once, and give ids of its own to each, of shard and key, say: "
                "key=lambda sample: sample['__url__'] + sample['__key__']"
            )
        return cls(hashes[order])

    def __len__(self) -> int:
        return len(self._hashes)

    def number(self, sample_id: Any) -> int:
        """The number of an id, in 0..N-1."""
        hashed = hash_of(sample_id)
        place = int(np.searchsorted(self._hashes, np.uint64(hashed)))
        if place == len(self) or int(self._hashes[place]) != hashed:
            raise ValueError(
                f"the stream gives the id {sample_id!r}, which is none of the {len(self):,} that were "
                "counted; make SampleIds.of() the stream that is trained, again if it has changed"
            )
        return place

    def save(self, path: str | Path) -> None:
        """Write a ``.npy`` file."""
        np.save(path, self._hashes)

    @classmethod
    def load(cls, path: str | Path) -> SampleIds:
        return cls(np.load(path))


def id_getter(key: Key) -> Callable[[Any], Any]:
    """A function that takes the id out of a sample."""
    if callable(key):
        return key

    def id_of(sample: Any) -> Any:
        try:
            return sample[key]
        except (KeyError, IndexError, TypeError):
            kind = type(sample).__name__
            told = f"{kind} of {', '.join(map(repr, sample))}" if isinstance(sample, Mapping) else kind
            raise ValueError(
                f"a sample of the stream has no entry {key!r} to know it by: it is a {told}. Give the "
                "name or the position of its id, or a function that makes one of the sample, as key="
            ) from None

    return id_of


def hash_of(sample_id: Any) -> int:
    """64 bits, the same in every process; those of 12 and "12" are the same."""
    plain = sample_id.item() if hasattr(sample_id, "item") else sample_id
    if not isinstance(plain, str | int):
        raise TypeError(
            f"a sample's id is {sample_id!r}, a {type(sample_id).__name__}; give strings or integers"
        )
    return int.from_bytes(blake2b(str(plain).encode(), digest_size=8).digest(), "little")
