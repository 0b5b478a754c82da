"""Strata by rank, and the lowest or highest scores: what several policies share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infobatch.chunks import chunks
from infobatch.policies.base import KeepProbabilities, Policy, Request
from infobatch.policies.bounds import ScoreBounds, ScoreSummary
from infobatch.scores.columns import IndexArray
from infobatch.seeding import permutation


@dataclass(frozen=True)
class RankedStrata:
    """Strata by rank, lowest scores first; the samples that rank above the last of them are all kept.

    Args:
        sizes: How many samples each stratum has; together at most N.
        probabilities: The keep probability of each, in (0, 1].
    """

    sizes: Sequence[int]
    probabilities: Sequence[float]

    @classmethod
    def that_leave_out(cls, num_pruned: Sequence[int], prune_ratios: Sequence[float]) -> RankedStrata:
        """The smallest strata that leave out given numbers of samples at given prune ratios.

        Args:
            num_pruned: How many samples each stratum leaves out.
            prune_ratios: The largest share that each may leave out, in [0, 1).
        """
        sizes = [stratum_size(d, r) for d, r in zip(num_pruned, prune_ratios, strict=True)]
        return cls(sizes, [1 - d / n if n else 1.0 for d, n in zip(num_pruned, sizes, strict=True)])

    def keep_probabilities(self, losses: Tensor, generator: torch.Generator) -> KeepProbabilities:
        """The strata of all samples, whose ``losses`` have shape (N,); see :func:`strata_by_rank`."""
        probabilities = torch.tensor([*self.probabilities, 1.0], dtype=torch.float64)
        return KeepProbabilities(probabilities, strata_by_rank(losses, self.sizes, generator))

    def score_bounds(self, summary: ScoreSummary) -> ScoreBounds:
        """The strata as bounds on the score, for ranks of which none has the scores of all samples."""
        ends = list(itertools.accumulate(self.sizes))
        return ScoreBounds(summary.bounds_at(ends), [*self.probabilities, 1.0])


def stratum_size(num_pruned: int, prune_ratio: float) -> int:
    """The fewest samples of which ``num_pruned`` are a share of at most ``prune_ratio``."""
    return math.ceil(num_pruned / prune_ratio - 1e-9) if num_pruned else 0


def strata_by_rank(losses: Tensor, sizes: Sequence[int], generator: torch.Generator) -> Tensor:
    """Strata of the given ``sizes`` by rank, lowest scores first, and a last one for all other samples.

    Samples without a score rank last; equal scores are ordered at random.

    Args:
        losses: The scores, (N,); NaN for a sample without one.
        sizes: How many samples each stratum has but the last.
        generator: Orders equal scores.

    Returns:
        The stratum of each sample, uint8 (N,).
    """
    values = torch.nan_to_num(losses, nan=torch.inf).numpy()
    ends = np.cumsum(sizes, dtype=np.int64)
    last = np.maximum(ends - 1, 0)  # the rank of each stratum's highest score
    bounds = np.partition(values, last)[last]
    strata = np.zeros(len(values), dtype=np.uint8)
    for bound in bounds:
        strata += values > bound
    for bound in np.unique(bounds):
        tied = np.flatnonzero(values == bound)  # with several bounds: in one order for all of them
        num_below = np.count_nonzero(values < bound)
        places = np.zeros(len(tied), np.uint8)
        for end in ends[bounds == bound]:
            places[: num_below + len(tied) - end] += 1
        order = permutation(len(tied), generator).numpy()
        for part in chunks(len(order)):
            strata[tied[order[part]]] += places[part]
    return torch.from_numpy(strata)


# -- The paper's rule, which InfoBatch and BLS share ------------------------------------------------


def mean_score(losses: Tensor) -> float:
    """The mean of ``losses`` (N,) over the samples that have a score; NaN if none has.

    It is summed in float64 and rounded to float32. The rounding matters: the mean of equal scores is
    then that score, and none lies below it.
    """
    scored = int(losses.numel() - losses.isnan().sum())
    total = torch.nansum(losses, dtype=torch.float64)
    return float((total / scored).to(torch.float32))


def prune_below_mean(losses: Tensor, prune_ratio: float, request: Request) -> KeepProbabilities:
    """Keep probability 1 - r below the mean score, 1 elsewhere.

    Where ``request.num_pruned`` is given, d, the ceil(d / r) lowest scores take the place of those below
    the mean.

    Args:
        losses: The scores, (N,); NaN for a sample without one.
        prune_ratio: r, in [0, 1).
        request: What the epoch asks for.

    Source: InfoBatch, ICLR 2024, equation 4.
    """
    if request.num_pruned is not None:
        lowest = RankedStrata.that_leave_out([request.num_pruned], [prune_ratio])
        return lowest.keep_probabilities(losses, request.generator)
    below = losses < mean_score(losses)  # false where there is no score
    probabilities = torch.tensor([1.0, 1 - prune_ratio], dtype=torch.float64)
    return KeepProbabilities(probabilities, below.to(torch.uint8))


def check_lowest_suffice(policy: Policy, prune_ratio: float, num_pruned: int, num_samples: int) -> None:
    """Refuse a target that a prune ratio could not meet even if all samples were well learned."""
    possible = prune_ratio > 0 or num_pruned == 0
    if not possible or stratum_size(num_pruned, prune_ratio) > num_samples:
        raise ValueError(
            f"the target leaves out {num_pruned:,} of {num_samples:,} samples in an epoch, but "
            f"{policy} can leave out at most {int(prune_ratio * num_samples + 1e-9):,}. The "
            f"smallest prune_ratio that meets it is {_smallest_ratio(num_pruned, num_samples)}; or "
            "lower the target"
        )


def _smallest_ratio(num_pruned: int, num_samples: int) -> float:
    """The least prune ratio, rounded up, that can leave out so many; below 1, however close to it."""
    ratio = 1.0
    for digits in range(3, 16):
        ratio = math.ceil(num_pruned / num_samples * 10**digits - 1e-9) / 10**digits
        if ratio < 1 and stratum_size(num_pruned, ratio) <= num_samples:
            break
    return ratio


# -- Selections of biased policies ------------------------------------------------------------------


def highest(values: np.ndarray, num: int, generator: torch.Generator) -> IndexArray:
    """The places of the ``num`` highest ``values`` (n,), highest first, equal ones in random order.

    NaN counts as the highest of all, so that a sample without a score gets one.
    """
    order = torch.randperm(len(values), generator=generator).numpy()
    ranked = np.argsort(-np.nan_to_num(values[order], nan=np.inf), kind="stable")
    return order[ranked[:num]]


def ones_at(indices: IndexArray, num_samples: int) -> Tensor:
    """Weights, float32 (N,), that are 1 at ``indices`` (k,) and 0 elsewhere."""
    weights = torch.zeros(num_samples, dtype=torch.float32)
    weights[torch.from_numpy(indices)] = 1
    return weights
