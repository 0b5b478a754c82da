"""Full data: what every other policy is compared with."""

from __future__ import annotations

import torch

from infobatch.policies.base import KeepProbabilities, Policy, Request
from infobatch.policies.bounds import ScoreBounds, ScoreSummary
from infobatch.scores.table import ScoreTable


class NoPruning(Policy):
    """Every sample is kept; training is that of a plain shuffled loader, bit for bit."""

    columns = ()

    def __repr__(self) -> str:
        return "NoPruning()"

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        strata = torch.zeros(len(scores), dtype=torch.uint8)
        return KeepProbabilities(torch.ones(1, dtype=torch.float64), strata)

    def score_bounds(self, summary: ScoreSummary, num_pruned: int | None) -> ScoreBounds:
        return ScoreBounds([], [1.0])

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        if num_pruned > 0:
            raise ValueError(
                f"the target leaves out {num_pruned:,} of {num_samples:,} samples in an epoch, but "
                "NoPruning leaves out none; choose another policy, or drop the target"
            )
