"""A fixed number of samples drawn of each stratum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from infobatch.batching import LastBatch, nearest_multiple
from infobatch.chunks import chunks
from infobatch.policies.allocation import whole
from infobatch.seeding import permutation
from infobatch.selection.selection import Selection


def draw_stratified(
    sizes: Sequence[int], counts: Sequence[int], strata: Tensor, generator: torch.Generator
) -> Selection:
    """Draw ``counts[s]`` of the ``sizes[s]`` samples of each stratum."""
    members = _in_order(strata.numpy(), sizes)
    weights = np.ones(len(strata), np.float32)
    end = 0
    for size, count in zip(sizes, counts, strict=True):
        end += size
        if count < size:
            of_stratum = members[end - size : end]
            weights[of_stratum] = size / count
            weights[of_stratum[permutation(size, generator)[count:].numpy()]] = 0
    return Selection(torch.from_numpy(weights), sum(counts))


def _in_order(strata: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """The samples of one stratum after another, each in rising order: a stable sort, int32 or int64.

    Args:
        strata: The stratum of each sample, uint8 (N,).
        sizes: The samples in each stratum.
    """
    members = np.empty(len(strata), np.int32 if len(strata) < 2**31 else np.int64)
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    for part in chunks(len(strata)):
        order = np.argsort(strata[part], kind="stable")
        numbers = np.bincount(strata[part], minlength=len(sizes))
        # A sample's place: where its stratum goes on, and its number among those of this piece.
        shifts = begins - (np.cumsum(numbers) - numbers)
        members[np.repeat(shifts, numbers) + np.arange(len(order))] = order + part.start
        begins += numbers
    return members


def stratum_counts(
    sizes: Sequence[int],
    probabilities: Sequence[float],
    multiple: int = 1,
    total: int | None = None,
    least: int = 1,
    last: LastBatch | None = None,
    wanted: int | None = None,
) -> list[int]:
    """Numbers to draw from each stratum: at least one from any that is not empty.

    They sum to ``total``, by default to the multiple nearest to the number ``wanted``, or to the sum of
    what is kept of each stratum, not below ``least`` and with a ``last`` batch that is not too small.
    """
    counts = [
        min(max(round(n * p), 1), n) if n else 0 for n, p in zip(sizes, probabilities, strict=True)
    ]
    if total is None:
        kept = sum(counts) if wanted is None else wanted
        if kept == sum(sizes):
            return list(sizes)
        least = max(least, sum(size > 0 for size in sizes))
        total = nearest_multiple(kept, multiple, sum(sizes), least, last)
    # Pruned strata first; those kept whole only where the others do not suffice. Whatever the count, the
    # weight n / k keeps the draw unbiased.
    pruned = [s for s, p in enumerate(probabilities) if p != 1]
    others = [s for s, p in enumerate(probabilities) if p == 1]
    for strata in (pruned, others):
        spread = _with_sum(counts, sizes, strata, total - sum(counts))
        counts = [spread.get(s, count) for s, count in enumerate(counts)]
    return counts


def _with_sum(
    counts: Sequence[int], sizes: Sequence[int], strata: Sequence[int], missing: int
) -> dict[int, int]:
    """The counts of some strata with as many more as are missing, or fewer, all by the same factor.

    None exceeds its size or, unless that is 0, falls below 1; the rest of what is missing stays so.
    """
    filled = [s for s in strata if sizes[s]]
    now, most = sum(counts[s] for s in filled), sum(sizes[s] for s in filled)
    total = min(max(now + missing, len(filled)), most)
    if not filled or total == now:
        return {}
    shares = np.array([counts[s] for s in filled]) * (total / now)
    numbers = whole(shares, total, np.array([sizes[s] for s in filled]))
    return dict(zip(filled, numbers.tolist(), strict=True))


def leave_out(codes: np.ndarray, kept: Sequence[int], generator: torch.Generator) -> None:
    """Keep a random ``kept[s]`` of a shard's samples with code s + 1; give the others code 0, in place.

    The draw is complete within the shard, whose ``codes`` are uint8 (n,): the weight is n / k.
    """
    for stratum, count in enumerate(kept):
        members = np.flatnonzero(codes == stratum + 1)
        if count < len(members):
            drawn = torch.randperm(len(members), generator=generator).numpy()
            codes[members[drawn[count:]]] = 0
