"""The control that every pruning method has to beat: leave out samples whatever their score."""

from __future__ import annotations

from dataclasses import dataclass

from infobatch.policies.base import KeepProbabilities, Policy, Request, check_some_are_kept
from infobatch.policies.bounds import ScoreBounds, ScoreSummary
from infobatch.policies.options import take_prune_ratio
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class RandomPruning(Policy):
    """Keeps every sample with probability 1 - r ("dynamic random" in the literature).

    Args:
        prune_ratio: r, the share of *all* samples that an epoch leaves out, in [0, 1); 0.5 as for
            :class:`InfoBatch`. With a target it has no effect.
    """

    columns = ()

    prune_ratio: float = 0.5

    def __post_init__(self) -> None:
        take_prune_ratio(self)

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        return KeepProbabilities.equal(1 - self._share(request.num_pruned, len(scores)), len(scores))

    def score_bounds(self, summary: ScoreSummary, num_pruned: int | None) -> ScoreBounds:
        return ScoreBounds([], [1 - self._share(num_pruned, summary.num_samples)])

    def _share(self, num_pruned: int | None, num_samples: int) -> float:
        """The share of all samples that the epoch leaves out."""
        return self.prune_ratio if num_pruned is None else num_pruned / num_samples

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_some_are_kept(num_pruned, num_samples)
