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

    An id's number is the place of its 64-bit hash among all of them. It depends on which ids there are,
    not on the order in which they were read. Save the object beside the checkpoints, for scores belong
    to numbers.

    Args:
        hashes: Hashes of the ids, uint64 (N,), rising; :meth:`of` makes them.
    """

    def __init__(self, hashes: np.ndarray) -> None:
        self._hashes = hashes

    @classmethod
    def of(cls, stream: Iterable[Any], key: Key | None = None) -> SampleIds:
        """Number the ids of a stream in one pass, which decodes no sample.

        Args:
            stream: All samples, or their ids.
            key: Where a sample has its id: the name or the position of an entry, or a function; None for
                a stream of ids.

        Raises:
            ValueError: If there are no samples, or two have the same id.
        """
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

    @property
    def ids(self) -> np.ndarray:
        """The hashes of the ids, in the order of their numbers, uint64 (N,)."""
        return self._hashes

    def number(self, sample_id: Any) -> int:
        """The number of an id, in 0..N-1. ``ValueError`` for an id that was not counted."""
        hashed = hash_of(sample_id)
        place = int(np.searchsorted(self._hashes, np.uint64(hashed)))
        if place == len(self) or int(self._hashes[place]) != hashed:
            raise ValueError(
                f"the stream gives the id {sample_id!r}, which is none of the {len(self):,} that were "
                "counted; make SampleIds.of() the stream that is trained, again if it has changed"
            )
        return place

    def save(self, path: str | Path) -> None:
        """Write the ids' hashes to a ``.npy`` file, whatever its name ends in."""
        with Path(path).open("wb") as file:
            np.save(file, self._hashes)

    @classmethod
    def load(cls, path: str | Path) -> SampleIds:
        """Read what :meth:`save` wrote."""
        return cls(np.load(path, allow_pickle=False))


def id_getter(key: Key) -> Callable[[Any], Any]:
    """A function that reads the id of a sample."""
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
    """A hash of 64 bits, the same in every process; 12 and "12" have the same."""
    plain = sample_id.item() if hasattr(sample_id, "item") else sample_id
    if not isinstance(plain, str | int):
        raise TypeError(
            f"a sample's id is {sample_id!r}, a {type(sample_id).__name__}; give strings or integers"
        )
    content = str(plain).encode("utf-8", "surrogatepass")  # names of files may be no UTF-8
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")
