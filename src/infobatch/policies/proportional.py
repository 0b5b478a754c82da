"""Keep probabilities that grow with the loss, above a floor."""

from __future__ import annotations

import numpy as np
import torch

from infobatch.policies.allocation import allocate, check_floor
from infobatch.policies.base import (
    KeepProbabilities,
    Policy,
    Request,
    check_prune_ratio,
    check_some_are_kept,
)
from infobatch.scores import ScoreTable


class Proportional(Policy):
    """Keep probability clip(c loss^power, floor k, 1), k their mean and c such that it is that.

    ``prune_ratio``: r in [0, 1), the share of *all* samples left out of an epoch. ``power``: at least 0;
    1 is proportional to the last loss, 0.5 to its root, 0 is random pruning. ``floor``: in (0, 1], a
    share of k, which is 1 - r or what the target says; weights reach 1 / (floor k). A sample without a
    score counts as the hardest, one with a negative loss as one without loss. It is importance sampling
    without replacement, with the loss in place of the gradient's norm (Katharopoulos & Fleuret, ICML
    2018).
    """

    def __init__(self, prune_ratio: float = 0.35, power: float = 1.0, floor: float = 0.3) -> None:
        check_prune_ratio(prune_ratio)
        if not power >= 0:
            raise ValueError(f"power is {power}; it must be at least 0")
        check_floor(floor)
        self.prune_ratio = float(prune_ratio)
        self.power = float(power)
        self.floor = float(floor)

    def __repr__(self) -> str:
        return (
            f"Proportional(prune_ratio={self.prune_ratio:g}, power={self.power:g}, floor={self.floor:g})"
        )

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        num_kept = request.num_kept(len(scores), self.prune_ratio)
        losses = scores["last_loss"].numpy().astype(np.float64)
        hardest = np.max(losses, initial=0, where=~np.isnan(losses))
        sizes = np.clip(np.nan_to_num(losses, nan=hardest), 0, None) ** self.power
        return KeepProbabilities(torch.from_numpy(allocate(sizes, num_kept, self.floor)))

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_some_are_kept(num_pruned, num_samples)
