"""Static pruning: a subset chosen once, by scores made beforehand."""

from __future__ import annotations

import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request, check_prune_ratio, highest, ones_at
from infobatch.policies.per_sample import Numbers, scores_of
from infobatch.scores.table import ScoreTable


class Static(BiasedPolicy):
    """Keeps the samples with the highest of given scores, the same ones in every epoch that is pruned.

    ``scores``: numbers (N,), higher for a harder sample, infinity included; equal ones are ordered at
    random, once and for all. ``prune_ratio``: r in [0, 1), the share of *all* samples left out. Weights
    are 1. For a run on the subset alone, set ``warmup_epochs=0`` and ``delta=1``.
    """

    columns = ()
    given = "scores"

    def __init__(self, scores: Numbers | None = None, prune_ratio: float = 0.5) -> None:
        check_prune_ratio(prune_ratio)
        values = scores_of(scores, "Static")
        self.num_samples = len(values)
        self.ranked = highest(values, len(values), torch.Generator().manual_seed(0))
        self.prune_ratio = float(prune_ratio)

    def __repr__(self) -> str:
        return f"Static(prune_ratio={self.prune_ratio:g})"

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_kept = request.num_kept(len(scores), self.prune_ratio)
        return ones_at(self.ranked[:num_kept], len(scores))
