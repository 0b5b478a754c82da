"""Full data, with which every other policy is compared."""

from __future__ import annotations

from dataclasses import dataclass

from infobatch.policies.base import KeepProbabilities, Policy, Request
from infobatch.policies.bounds import ScoreBounds, ScoreSummary
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class NoPruning(Policy):
    """Keeps every sample: training is that of a plain shuffled loader, bit for bit."""

    columns = ()

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        return KeepProbabilities.equal(1.0, len(scores))

    def score_bounds(self, summary: ScoreSummary, num_pruned: int | None) -> ScoreBounds:
        return ScoreBounds([], [1.0])

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        if num_pruned > 0:
            raise ValueError(
                f"the target leaves out {num_pruned:,} of {num_samples:,} samples in an epoch, but "
                "NoPruning leaves out none; choose another policy, or drop the target"
            )
