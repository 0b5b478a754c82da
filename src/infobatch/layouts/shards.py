"""Shards: which samples lie in which shard, and which rank holds it."""

from __future__ import annotations

import numpy as np

from infobatch.distributed import Replicas
from infobatch.scores.columns import IndexArray


def default_num_shards(num_samples: int) -> int:
    """A number of shards, 15 * 2^k and at most 7,680, so that each has 1,024 samples or more if it can.

    It depends on the data alone, so that a run can go on with any number of ranks; most numbers of ranks
    divide it.
    """
    num_shards = 7680
    while num_shards > 60 and num_samples < 1024 * num_shards:
        num_shards //= 2
    return max(1, min(num_shards, num_samples // 32))


class Shards:
    """The shards of N samples, and those of this rank.

    Sample i is number i // V of shard i % V, so that shards are alike whatever the order of the data
    set, and their sizes differ by at most 1. Shard v is held by rank v % R. A rank's arrays hold its
    shards one after another.

    Args:
        num_samples: N, the samples of the dataset.
        num_shards: V, from R to N.
        replicas: The place of this rank among those that train one model.

    Attributes:
        ids: Numbers of the shards that this rank holds, int64 (C,).
        offsets: Where each of them begins in this rank's arrays and, last, where the last one ends.

    Raises:
        ValueError: If there are fewer shards than ranks, or fewer samples than shards.
    """

    def __init__(self, num_samples: int, num_shards: int, replicas: Replicas) -> None:
        if num_shards < replicas.num_replicas:
            raise ValueError(
                f"num_shards is {num_shards}, fewer than the {replicas.num_replicas} ranks, so that "
                "some would have no samples; give a multiple of the number of ranks, or keep all "
                "scores on each rank: layout=Replicated()"
            )
        if num_shards > num_samples:
            raise ValueError(
                f"num_shards is {num_shards:,}, but there are only {num_samples:,} samples; a shard "
                "should have a thousand or more, so give fewer"
            )
        self.num_samples = num_samples
        self.num_shards = num_shards
        self.replicas = replicas
        self.ids = np.arange(replicas.rank, num_shards, replicas.num_replicas)
        self.offsets = np.concatenate([[0], self.shared(num_samples)[self.ids].cumsum()])
        self._starts = np.full(num_shards, -1)
        self._starts[self.ids] = self.offsets[:-1]

    @property
    def num_local(self) -> int:
        """Number of samples that this rank holds."""
        return int(self.offsets[-1])

    def shared(self, count: int) -> IndexArray:
        """``count`` samples shared out equally among all shards, int64 (V,)."""
        return count // self.num_shards + (np.arange(self.num_shards) < count % self.num_shards)

    def by_rank(self, counts: IndexArray) -> IndexArray:
        """The sums over each rank's shards of ``counts`` (V,), int64 (R,)."""
        ranks = np.arange(self.num_shards) % self.replicas.num_replicas
        sums = np.bincount(ranks, counts, minlength=self.replicas.num_replicas)
        return sums.astype(np.int64)

    def longest(self, count: int) -> int:
        """The share of the rank that has most of ``count`` samples, shared out among all shards."""
        return int(self.by_rank(self.shared(count)).max())

    def part(self, column: int) -> slice:
        """Where this rank's ``column``-th shard lies in its arrays."""
        return slice(int(self.offsets[column]), int(self.offsets[column + 1]))

    def parts(self) -> list[slice]:
        """Where each of this rank's shards lies in its arrays."""
        return [self.part(column) for column in range(len(self.ids))]

    def indices(self, column: int) -> IndexArray:
        """The samples of this rank's ``column``-th shard."""
        return np.arange(self.ids[column], self.num_samples, self.num_shards)

    @property
    def held(self) -> IndexArray:
        """The samples of this rank, in the order of its arrays."""
        return np.concatenate([self.indices(column) for column in range(len(self.ids))])

    def columns(self, indices: IndexArray) -> IndexArray:
        """The position in ``ids`` of the shards of samples that this rank holds."""
        return indices % self.num_shards // self.replicas.num_replicas

    def locate(self, indices: IndexArray) -> IndexArray:
        """Where samples lie in this rank's arrays; negative for those of other ranks."""
        within, shards = np.divmod(indices, self.num_shards)
        starts = self._starts[shards]
        return np.where((starts < 0) | (indices >= self.num_samples), -1, starts + within)
