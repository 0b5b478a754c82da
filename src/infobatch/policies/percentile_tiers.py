"""The authors' "40 %" variant: the better a sample is learned, the more often it is left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real

from infobatch.policies.base import KeepProbabilities, Policy, Request
from infobatch.policies.bounds import ScoreBounds, ScoreSummary
from infobatch.policies.options import set_fields
from infobatch.policies.ranking import RankedStrata
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class PercentileTiers(Policy):
    """Sets keep probabilities by the percentile of a sample's score.

    Samples above the last tier, and samples without a score, are always kept. With a target, all
    percentiles are multiplied by a common factor.

    Args:
        percentiles: The upper bounds of the tiers as shares of the samples that have a score, rising in
            (0, 1]. The defaults, the 20th and the 85th percentile, are those of the authors' ImageNet
            code.
        keep: The keep probability of each tier, in (0, 1). The defaults, 0.25 and 0.5, are the authors',
            too.

    Source: InfoBatch, ICLR 2024, by its authors' ImageNet code.
    """

    percentiles: Sequence[float] = (0.20, 0.85)
    keep: Sequence[float] = (0.25, 0.5)

    def __post_init__(self) -> None:
        for name, values in (("percentiles", self.percentiles), ("keep", self.keep)):
            if not isinstance(values, Iterable) or not all(isinstance(each, Real) for each in values):
                raise TypeError(
                    f"{name} is {values!r}; give a number for each tier, such as (0.25, 0.5)"
                )
        percentiles, keep = tuple(self.percentiles), tuple(self.keep)
        if len(percentiles) != len(keep) or not percentiles:
            raise ValueError(
                f"percentiles {percentiles} and keep {keep} differ in length or are "
                "empty; give one keep probability for each tier below a percentile"
            )
        if len(percentiles) > 200:
            raise ValueError(f"there are {len(percentiles)} percentiles; give 200 or fewer")
        bounds = [0.0, *percentiles]
        if any(not a < b for a, b in itertools.pairwise(bounds)) or bounds[-1] > 1:
            raise ValueError(f"percentiles are {percentiles}; they must rise within (0, 1]")
        if any(not 0 < p < 1 for p in keep):
            raise ValueError(
                f"keep is {keep}; each must be above 0 (or its samples would never be seen "
                "again) and below 1 (those always kept need no tier)"
            )
        set_fields(self, percentiles=tuple(map(float, percentiles)), keep=tuple(map(float, keep)))

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        losses = scores["last_loss"]
        if request.num_pruned is None:
            tiers = self._nominal_tiers(int(len(losses) - losses.isnan().sum()))
        else:
            tiers = self._tiers_that_leave_out(request.num_pruned)
        return tiers.keep_probabilities(losses, request.generator)

    def score_bounds(self, summary: ScoreSummary, num_pruned: int | None) -> ScoreBounds:
        if num_pruned is None:
            tiers = self._nominal_tiers(summary.num_scored)
        else:
            tiers = self._tiers_that_leave_out(num_pruned)
        return tiers.score_bounds(summary)

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        if not self._fits(num_pruned, num_samples):
            most = int(sum(self._tier_shares) / self.percentiles[-1] * num_samples) + len(self.keep)
            while not self._fits(most, num_samples):
                most -= 1
            raise ValueError(
                f"the target leaves out {num_pruned:,} of {num_samples:,} samples in an epoch, but "
                f"{self} can leave out at most {most:,}. Give smaller keep probabilities, or lower "
                "the target"
            )

    def _nominal_tiers(self, num_scored: int) -> RankedStrata:
        """The tiers at the percentiles as they are given."""
        ends = [int(bound * num_scored + 0.5) for bound in (0.0, *self.percentiles)]
        return RankedStrata([b - a for a, b in itertools.pairwise(ends)], self.keep)

    def _tiers_that_leave_out(self, num_pruned: int) -> RankedStrata:
        """The tiers at percentiles that are moved to leave out ``num_pruned`` samples."""
        return RankedStrata.that_leave_out(self._split(num_pruned), [1 - p for p in self.keep])

    def _fits(self, num_pruned: int, num_samples: int) -> bool:
        """Whether there are as many samples as the tiers need to leave out ``num_pruned``."""
        return sum(self._tiers_that_leave_out(num_pruned).sizes) <= num_samples

    @property
    def _tier_shares(self) -> list[float]:
        """The share of all samples that each tier leaves out at the percentiles as they are given."""
        bounds = [0.0, *self.percentiles]
        widths = [b - a for a, b in itertools.pairwise(bounds)]
        return [w * (1 - p) for w, p in zip(widths, self.keep, strict=True)]

    def _split(self, num_pruned: int) -> list[int]:
        """``num_pruned`` spread over the tiers in proportion to :attr:`_tier_shares`."""
        shares, done, counts, cumulated = self._tier_shares, 0, [], 0.0
        for share in shares:
            cumulated += share
            upto = int(num_pruned * min(1.0, cumulated / sum(shares)) + 0.5)
            counts.append(upto - done)
            done = upto
        return counts
