"""The authors' "40 %" variant: the better a sample is learned, the more often it is left out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from infobatch.policies.base import (
    KeepProbabilities,
    Policy,
    Request,
    bounds_of_lowest,
    bounds_of_sizes,
    prune_lowest,
    rank_strata,
    stratum_size,
)
from infobatch.policies.bounds import ScoreBounds, ScoreSummary
from infobatch.scores.table import ScoreTable


class PercentileTiers(Policy):
    """Keep probabilities by the percentile of a sample's score.

    ``percentiles``: the upper bounds of the pruned tiers, rising, in (0, 1]; ``keep``: the keep
    probability of each, in (0, 1). Samples above the last bound are always kept. The defaults are
    those of the authors' ImageNet code: 0.25 below the 20th percentile, 0.5 up to the 85th.

    With an exact number to leave out, the bounds are moved by a common factor. Until at least one
    sample has a score nothing is pruned.
    """

    def __init__(
        self, percentiles: Sequence[float] = (0.20, 0.85), keep: Sequence[float] = (0.25, 0.5)
    ) -> None:
        if len(percentiles) != len(keep) or not percentiles:
            raise ValueError(
                f"percentiles {tuple(percentiles)} and keep {tuple(keep)} differ in length or are "
                "empty; give one keep probability for each tier below a percentile"
            )
        bounds = [0.0, *percentiles]
        if any(a >= b for a, b in itertools.pairwise(bounds)) or bounds[-1] > 1:
            raise ValueError(f"percentiles are {tuple(percentiles)}; they must rise within (0, 1]")
        if any(not 0 < p < 1 for p in keep):
            raise ValueError(
                f"keep is {tuple(keep)}; each must be above 0 (or its samples would never be seen "
                "again) and below 1 (those always kept need no tier)"
            )
        self.percentiles = tuple(float(p) for p in percentiles)
        self.keep = tuple(float(p) for p in keep)

    def __repr__(self) -> str:
        return f"PercentileTiers(percentiles={self.percentiles}, keep={self.keep})"

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        losses = scores["last_loss"]
        if request.num_pruned is None:
            sizes = self._sizes(int(len(losses) - losses.isnan().sum()))
            return rank_strata(losses, sizes, self.keep, request.generator)
        return prune_lowest(
            losses, self._split(request.num_pruned), self._prune_ratios, request.generator
        )

    def score_bounds(self, summary: ScoreSummary, num_pruned: int | None) -> ScoreBounds:
        if num_pruned is None:
            return bounds_of_sizes(summary, self._sizes(summary.num_scored), self.keep)
        return bounds_of_lowest(summary, self._split(num_pruned), self._prune_ratios)

    def _sizes(self, num_scored: int) -> list[int]:
        ends = [int(bound * num_scored + 0.5) for bound in (0.0, *self.percentiles)]
        return [b - a for a, b in itertools.pairwise(ends)]

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        if not self._fits(num_pruned, num_samples):
            most = int(self._nominal_share / self.percentiles[-1] * num_samples) + len(self.keep)
            while not self._fits(most, num_samples):
                most -= 1
            raise ValueError(
                f"the target leaves out {num_pruned:,} of {num_samples:,} samples in an epoch, but "
                f"{self} can leave out at most {most:,}. Give smaller keep probabilities, or lower "
                "the target"
            )

    def _fits(self, num_pruned: int, num_samples: int) -> bool:
        tiers = zip(self._split(num_pruned), self._prune_ratios, strict=True)
        return sum(stratum_size(d, r) for d, r in tiers) <= num_samples

    @property
    def _prune_ratios(self) -> list[float]:
        return [1 - p for p in self.keep]

    @property
    def _tier_shares(self) -> list[float]:
        """The share of all samples that each tier leaves out at the nominal percentiles."""
        bounds = [0.0, *self.percentiles]
        widths = [b - a for a, b in itertools.pairwise(bounds)]
        return [w * r for w, r in zip(widths, self._prune_ratios, strict=True)]

    @property
    def _nominal_share(self) -> float:
        return sum(self._tier_shares)

    def _split(self, num_pruned: int) -> list[int]:
        """``num_pruned`` over the tiers in proportion to what each leaves out nominally."""
        done, counts, cumulated = 0, [], 0.0
        for share in self._tier_shares:
            cumulated += share
            upto = int(num_pruned * min(1.0, cumulated / self._nominal_share) + 0.5)
            counts.append(upto - done)
            done = upto
        return counts
