"""Keep probabilities that grow with the loss, above a floor."""

from __future__ import annotations

import numpy as np
import torch

from infobatch.policies.base import (
    KeepProbabilities,
    Policy,
    Request,
    check_prune_ratio,
    check_some_are_kept,
)
from infobatch.scores import ScoreTable

SMALLEST = 1e-9
"""Sizes below this part of the largest are taken for it."""
HALVINGS = 50


class Proportional(Policy):
    """Keep probability max(floor, min(1, c loss^power)), c such that they sum to the number kept.

    ``prune_ratio``: r in [0, 1), the share of *all* samples left out of an epoch. ``power``: at least 0;
    1 is proportional to the last loss, 0.5 to its root, 0 is random pruning. ``floor``: in (0, 1 - r];
    weights reach 1 / floor. A sample without a score counts as the hardest, one with a negative loss as
    one without loss. It is importance sampling without replacement, with the loss in place of the
    gradient's norm (Katharopoulos & Fleuret, ICML 2018).
    """

    def __init__(self, prune_ratio: float = 0.35, power: float = 1.0, floor: float = 0.25) -> None:
        check_prune_ratio(prune_ratio)
        if not power >= 0:
            raise ValueError(f"power is {power}; it must be at least 0")
        if not 0 < floor < 1:
            raise ValueError(f"floor is {floor}; it is a keep probability, above 0 and below 1")
        if floor > 1 - prune_ratio:
            raise ValueError(
                f"floor is {floor:g}, above the share that is kept, 1 - {prune_ratio:g}; lower one of "
                "them"
            )
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
        if hardest == 0:
            sizes[:] = 1  # nothing to tell them apart by
        return KeepProbabilities(torch.from_numpy(_with_sum(sizes, self.floor, num_kept)))

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_some_are_kept(num_pruned, num_samples)
        most = int((1 - self.floor) * num_samples + 1e-9)
        if num_pruned > most:
            raise ValueError(
                f"the target leaves out {num_pruned:,} of {num_samples:,} samples in an epoch, but "
                f"{self} can leave out at most {most:,}. Give a floor of at most "
                f"{np.floor((1 - num_pruned / num_samples) * 1000 + 1e-9) / 1000:g}, or lower the target"
            )


def _with_sum(sizes: np.ndarray, floor: float, total: int) -> np.ndarray:
    """clip(c * sizes, floor, 1), float64 (N,), with the c, by bisection, that makes its sum total."""
    num_samples = len(sizes)
    floor = min(floor, total / num_samples)
    sizes = np.maximum(sizes / sizes.max(), SMALLEST)
    low, high = np.log(floor), -np.log(SMALLEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if np.clip(np.exp(middle) * sizes, floor, 1).sum() < total:
            low = middle
        else:
            high = middle
    kept: np.ndarray = np.clip(np.exp(high) * sizes, floor, 1)
    return kept
