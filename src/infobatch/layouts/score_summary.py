"""What sharded scores are like on all ranks together: each number takes one small sum over the ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from infobatch.distributed import Reduce
from infobatch.layouts.shards import Shards
from infobatch.policies.bounds import Bound
from infobatch.scores.columns import FloatArray

_HALF = 1 << 16


class ShardedScores:
    """A :class:`ScoreSummary` of scores that each rank holds a part of.

    All its numbers are bitwise the same for any number of ranks, and so is what is drawn by them.

    Args:
        losses: Scores that this rank holds, float32 (n,), NaN where a sample has none.
        shards: The shards of the run, and those of this rank.
        reduce: Sums a tensor over the ranks: see :data:`infobatch.distributed.Reduce`.
    """

    def __init__(self, losses: FloatArray, shards: Shards, reduce: Reduce) -> None:
        self._losses = losses
        self._shards = shards
        self._reduce = reduce
        self._known_sums: np.ndarray | None = None

    @property
    def num_samples(self) -> int:
        return self._shards.num_samples

    @property
    def num_scored(self) -> int:
        return int(self._sums[:, 0].sum())

    @property
    def mean(self) -> float:
        count, total = self._sums.sum(0)
        return float(np.float32(total / count)) if count else float("nan")

    @property
    def _sums(self) -> np.ndarray:
        """Number of scores and their sum in each shard, float64 (V, 2); summed over the ranks once."""
        if self._known_sums is not None:
            return self._known_sums
        # Of each shard, and added up only here: the sum does not depend on which rank has which.
        sums = np.zeros((self._shards.num_shards, 2))
        for shard, part in zip(self._shards.ids, self._shards.parts(), strict=True):
            losses = self._losses[part]
            scored = losses[~np.isnan(losses)]
            sums[shard] = len(scored), scored.sum(dtype=np.float64)
        self._known_sums = self._reduce(torch.from_numpy(sums)).numpy()
        return self._known_sums

    def bounds_at(self, ranks: Sequence[int]) -> list[Bound]:
        """Found by histograms: of the scores' upper 16 bits, and then of the lower ones in few bins."""
        upper = np.zeros(_HALF, np.int64)
        for part in self._shards.parts():
            upper += np.bincount(sort_keys(self._losses[part]) >> 16, minlength=_HALF)
        upper_ends = self._reduce(torch.from_numpy(upper)).numpy().cumsum()
        found = np.searchsorted(upper_ends, ranks)  # the first that reaches each rank
        bins = sorted(set(found.tolist()))
        lower = np.zeros((len(bins), _HALF), np.int64)
        for part in self._shards.parts():
            keys = sort_keys(self._losses[part])
            for row, number in zip(lower, bins, strict=True):
                row += np.bincount(keys[keys >> 16 == number] & (_HALF - 1), minlength=_HALF)
        lower = self._reduce(torch.from_numpy(lower)).numpy()
        bounds = []
        for rank, number in zip(ranks, found.tolist(), strict=True):
            if rank == 0:
                bounds.append(Bound(-np.inf))
                continue
            counts = lower[bins.index(number)]
            below = int(upper_ends[number - 1]) if number else 0
            ends = below + counts.cumsum()
            low = int(np.searchsorted(ends, rank))
            num_equal = int(counts[low])
            share = (rank - (int(ends[low]) - num_equal)) / num_equal
            bounds.append(Bound(score_of_key(number << 16 | low), share))
        return bounds


class NoScores:
    """The summary before any epoch has been trained; it needs no other rank."""

    num_scored = 0
    mean = float("nan")

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def bounds_at(self, ranks: Sequence[int]) -> list[Bound]:
        return [Bound(np.inf, rank / self.num_samples) for rank in ranks]


def sort_keys(losses: FloatArray) -> np.ndarray:
    """Unsigned numbers, uint32 (n,), that sort as the losses do; NaN counts as infinity."""
    values = np.where(np.isnan(losses), np.float32(np.inf), losses)
    values += np.float32(0)  # no -0
    bits = values.view(np.int32)
    keys = bits >> 31  # all ones where negative: then every bit is turned, else the sign's alone
    keys |= np.int32(-(2**31))
    keys ^= bits
    return keys.view(np.uint32)


def score_of_key(key: int) -> float:
    """The loss that has a key."""
    bits = key & 0x7FFFFFFF if key & 0x80000000 else ~key & 0xFFFFFFFF
    return float(np.array(bits, np.uint32).view(np.float32))
