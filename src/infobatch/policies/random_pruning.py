"""The control every pruning method has to beat: leave out samples whatever their score."""

from __future__ import annotations

import warnings

import torch

from infobatch.policies.base import (
    KeepProbabilities,
    Policy,
    Request,
    check_prune_ratio,
    check_some_are_kept,
)
from infobatch.policies.bounds import ScoreBounds, ScoreSummary
from infobatch.scores.table import ScoreTable

DEFAULT = 0.5  # as for InfoBatch


class RandomPruning(Policy):
    """Every sample has keep probability 1 - r ("dynamic random" in the literature).

    ``prune_ratio``: r in [0, 1), here the share of *all* samples left out of an epoch; with a target
    it has no say.
    """

    columns = ()

    def __init__(self, prune_ratio: float = DEFAULT) -> None:
        check_prune_ratio(prune_ratio)
        self.prune_ratio = float(prune_ratio)

    def __repr__(self) -> str:
        return f"RandomPruning(prune_ratio={self.prune_ratio:g})"

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        share = self._share(request.num_pruned, len(scores))
        strata = torch.zeros(len(scores), dtype=torch.uint8)
        return KeepProbabilities(torch.tensor([1 - share], dtype=torch.float64), strata)

    def score_bounds(self, summary: ScoreSummary, num_pruned: int | None) -> ScoreBounds:
        return ScoreBounds([], [1 - self._share(num_pruned, summary.num_samples)])

    def _share(self, num_pruned: int | None, num_samples: int) -> float:
        return self.prune_ratio if num_pruned is None else num_pruned / num_samples

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        if num_pruned and self.prune_ratio != DEFAULT:
            warnings.warn(
                f"prune_ratio={self.prune_ratio:g} has no effect: with a target, that decides how many "
                "samples are left out; drop one of them",
                UserWarning,
                stacklevel=2,
            )
        check_some_are_kept(num_pruned, num_samples)
