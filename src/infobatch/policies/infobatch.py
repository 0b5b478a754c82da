"""The paper's rule: leave out a random part of the samples whose score is below the mean."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from infobatch.policies.allocation import check_column
from infobatch.policies.base import (
    KeepProbabilities,
    Policy,
    Request,
    bounds_of_lowest,
    check_prune_ratio,
    prune_below_mean,
    stratum_size,
)
from infobatch.policies.bounds import Bound, ScoreBounds, ScoreSummary
from infobatch.scores.table import ScoreTable

LOSSES = ("last_loss", "smoothed_loss")


class InfoBatch(Policy):
    """Keep probability 1 - r below the mean score, 1 elsewhere (InfoBatch, ICLR 2024, eq. 4).

    ``prune_ratio``: r in [0, 1), the share of the *below-average* samples left out of an epoch, not
    the share of all samples; 0.5 is the paper's default and leaves out a quarter to a third of
    them. With an exact number d to leave out, the well-learned samples are instead the ceil(d / r)
    with the lowest scores. ``by``: the score's column, last_loss, or smoothed_loss, a running mean for
    losses of which much is the noise of a mask or a time step.
    """

    def __init__(
        self, prune_ratio: float = 0.5, *others: Any, by: str = "last_loss", **more_others: Any
    ) -> None:
        if others or more_others or not isinstance(prune_ratio, Real):
            raise TypeError(
                "InfoBatch here is a policy and takes only prune_ratio and by; these look like the "
                "arguments of the authors' package. In place of its three calls write:\n"
                "    pruner = DynamicPruner(dataset, num_epochs, policy=InfoBatch(prune_ratio=0.5))\n"
                "    loader = pruner.loader(batch_size=128)  # yields (samples, batch)\n"
                "    loss = pruner.update(losses, samples)   # losses with reduction='none'"
            )
        check_prune_ratio(prune_ratio)
        check_column(by, LOSSES)
        self.prune_ratio: float = float(prune_ratio)
        self.by = by
        self.columns = (by,)

    def __repr__(self) -> str:
        by = "" if self.by == "last_loss" else f", by={self.by!r}"
        return f"InfoBatch(prune_ratio={self.prune_ratio:g}{by})"

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        return prune_below_mean(scores[self.by], self.prune_ratio, request)

    def score_bounds(self, summary: ScoreSummary, num_pruned: int | None) -> ScoreBounds:
        if num_pruned is not None:
            return bounds_of_lowest(summary, [num_pruned], [self.prune_ratio])
        return ScoreBounds([Bound(summary.mean)], [1 - self.prune_ratio, 1.0])

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        possible = self.prune_ratio > 0 or num_pruned == 0
        if not possible or stratum_size(num_pruned, self.prune_ratio) > num_samples:
            smallest = _smallest_ratio(num_pruned, num_samples)
            raise ValueError(
                f"the target leaves out {num_pruned:,} of {num_samples:,} samples in an epoch, but "
                f"{self} can leave out at most {int(self.prune_ratio * num_samples + 1e-9):,}. The "
                f"smallest prune_ratio that meets it is {smallest}; or lower the target"
            )


def _smallest_ratio(num_pruned: int, num_samples: int) -> float:
    """The least prune ratio, rounded up, that can leave out so many; below 1, however close to it."""
    ratio = 1.0
    for digits in range(3, 16):
        ratio = math.ceil(num_pruned / num_samples * 10**digits - 1e-9) / 10**digits
        if ratio < 1 and stratum_size(num_pruned, ratio) <= num_samples:
            break
    return ratio
