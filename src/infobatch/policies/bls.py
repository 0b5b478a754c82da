"""BLS (CVPR 2026): the paper's rule where only a batch's loss is known."""

from __future__ import annotations

import torch

from infobatch.policies.base import (
    KeepProbabilities,
    Policy,
    Request,
    check_prune_ratio,
    prune_below_mean,
)
from infobatch.policies.infobatch import InfoBatch
from infobatch.scores.table import ScoreTable


class BLS(Policy):
    """As :class:`InfoBatch`, by the smoothed mean loss of the batches that a sample was in.

    For losses that exist for a batch alone, of which each sample is given the whole:
    ``pruner.update(loss.expand(len(samples)), samples)``. ``prune_ratio``: as for InfoBatch. Weights are
    those of the draw, on each sample's own loss; the authors multiply a batch's loss by its mean weight,
    which is the same only where all of a batch's losses are.
    """

    columns = ("batch_loss", "visits")

    def __init__(self, prune_ratio: float = 0.5) -> None:
        check_prune_ratio(prune_ratio)
        self.prune_ratio = float(prune_ratio)

    def __repr__(self) -> str:
        return f"BLS(prune_ratio={self.prune_ratio:g})"

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        never_seen = scores["visits"] == 0
        losses = scores["batch_loss"].masked_fill(never_seen, torch.nan)
        return prune_below_mean(losses, self.prune_ratio, request)

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        InfoBatch(self.prune_ratio).check_target(num_pruned, num_samples)
