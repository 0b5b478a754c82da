"""The paper's rule: leave out a random part of the samples whose score is below the mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from infobatch.policies.base import KeepProbabilities, Policy, Request
from infobatch.policies.bounds import Bound, ScoreBounds, ScoreSummary
from infobatch.policies.options import check_column, check_prune_ratio, set_fields
from infobatch.policies.ranking import RankedStrata, check_lowest_suffice, prune_below_mean
from infobatch.scores.table import ScoreTable

SCORES = ("last_loss", "smoothed_loss")


@dataclass(frozen=True, eq=False, init=False)
class InfoBatch(Policy):
    """Keeps samples below the mean score with probability 1 - r, and all others.

    With a target of d samples to leave out, the ceil(d / r) samples with the lowest scores take the
    place of those below the mean.

    Args:
        prune_ratio: r, the share of the *below-average* samples that an epoch leaves out, in [0, 1); not
            the share of all samples. The default, 0.5, is the paper's, and leaves out a quarter to a
            third of all.
        by: The score column: last_loss, the paper's, or smoothed_loss, a running mean, for losses that
            vary much with a random mask or time step.

    Raises:
        TypeError: For the arguments of the authors' package, with the lines to write in their place.

    Source: InfoBatch, ICLR 2024, equation 4.
    """

    prune_ratio: float
    by: str
    columns: tuple[str, ...] = field(init=False, repr=False)

    def __init__(
        self, prune_ratio: float = 0.5, *others: Any, by: str = "last_loss", **more_others: Any
    ) -> None:
        if others or more_others or not isinstance(prune_ratio, Real):
            raise TypeError(
                "InfoBatch here is a policy and takes only prune_ratio and by; these look like the "
                "arguments of the authors' package. In place of its three calls write:\n"
                "    pruner = DynamicPruner(dataset, num_epochs, policy=InfoBatch(prune_ratio=0.5))\n"
                "    loader = pruner.loader(batch_size=128)  # yields (indices, batch)\n"
                "    loss = pruner.update(losses, indices)   # losses with reduction='none'"
            )
        check_prune_ratio(prune_ratio)
        check_column(by, SCORES)
        set_fields(self, prune_ratio=float(prune_ratio), by=by, columns=(by,))

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        return prune_below_mean(scores[self.by], self.prune_ratio, request)

    def score_bounds(self, summary: ScoreSummary, num_pruned: int | None) -> ScoreBounds:
        if num_pruned is not None:
            return RankedStrata.that_leave_out([num_pruned], [self.prune_ratio]).score_bounds(summary)
        return ScoreBounds([Bound(summary.mean)], [1 - self.prune_ratio, 1.0])

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_lowest_suffice(self, self.prune_ratio, num_pruned, num_samples)
