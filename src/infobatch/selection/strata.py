"""A fixed number of samples drawn of each stratum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from infobatch.batching import ANY_SIZE, EpochSizes
from infobatch.chunks import chunks
from infobatch.policies.allocation import SMALLEST, allocate, whole
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
    epoch_sizes: EpochSizes = ANY_SIZE,
    total: int | None = None,
    wanted: int | None = None,
) -> list[int]:
    """Numbers to draw from each stratum: at least one from any that is not empty.

    They sum to ``total``, by default to one of ``epoch_sizes``: the nearest to the number ``wanted``,
    or to the sum of what is kept of each stratum.
    """
    counts = [
        min(max(round(n * p), 1), n) if n else 0 for n, p in zip(sizes, probabilities, strict=True)
    ]
    if total is None:
        kept = sum(counts) if wanted is None else wanted
        if kept == sum(sizes):
            return list(sizes)
        num_filled = sum(size > 0 for size in sizes)
        total = epoch_sizes.at_least(num_filled).nearest(kept, sum(sizes))
    # Pruned strata first, all by the same factor as far as they have samples; those kept whole only
    # where the others do not suffice. Whatever the count, the weight n / k keeps the draw unbiased.
    numbers, most, are_whole = np.array(counts), np.array(sizes), np.array(probabilities) == 1
    for part in (~are_whole, are_whole):
        now, of_part = int(numbers[part].sum()), most[part]
        due = now + total - int(numbers.sum())
        due = min(max(due, int(np.count_nonzero(of_part))), int(of_part.sum()))
        if due != now:
            shares = numbers[part] * (due / now)
            if (shares > of_part).any():
                shares = of_part * allocate(shares / np.maximum(of_part, 1), due, SMALLEST, of_part)
            numbers[part] = whole(shares, due, of_part)
    drawn: list[int] = numbers.tolist()
    return drawn


def leave_out(codes: np.ndarray, kept: Sequence[int], generator: torch.Generator) -> None:
    """Keep a random ``kept[s]`` of a shard's samples with code s + 1; give the others code 0, in place.

    The draw is complete within the shard, whose ``codes`` are uint8 (n,): the weight is n / k.
    """
    for stratum, count in enumerate(kept):
        members = np.flatnonzero(codes == stratum + 1)
        if count < len(members):
            drawn = torch.randperm(len(members), generator=generator).numpy()
            codes[members[drawn[count:]]] = 0
