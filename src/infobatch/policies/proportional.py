"""Keep probabilities that grow with the loss, or the gradient's norm, above a floor."""

from __future__ import annotations

import torch
from torch import Tensor

from infobatch.policies.allocation import allocate, check_column, check_floor, sizes_of
from infobatch.policies.base import (
    KeepProbabilities,
    Policy,
    Request,
    check_prune_ratio,
    check_some_are_kept,
)
from infobatch.scores.table import ScoreTable

SIZES = ("last_loss", "smoothed_loss", "gradient_norm", "smoothed_norm")


class Proportional(Policy):
    """Keep probability clip(c size^power, floor k, cap), k their mean and c such that it is that.

    ``prune_ratio``: r in [0, 1), the share of *all* samples left out of an epoch. ``by``: the score
    column that the sizes are of: last_loss, smoothed_loss, or, where ``update`` is given gradient norms,
    gradient_norm or smoothed_norm. ``power``: at least 0; 1 is proportional, 0.5 to the root, 0 is
    random pruning. ``floor``: in (0, 1], a share of k, which is 1 - r or what the target says; weights
    reach 1 / (floor k). ``cap``: the largest keep probability, at most 1 and at least k. ``ordered``:
    the draw passes over the samples in the order of their sizes, so that it takes of easy and hard ones
    alike as many as it should. A sample without a score counts as the hardest, one with a negative loss
    as one without loss. It is importance sampling without replacement (Katharopoulos & Fleuret, ICML
    2018).
    """

    def __init__(
        self,
        prune_ratio: float = 0.35,
        by: str = "last_loss",
        power: float = 1.0,
        floor: float = 0.3,
        cap: float = 1.0,
        ordered: bool = False,
    ) -> None:
        check_prune_ratio(prune_ratio)
        check_column(by, SIZES)
        if not power >= 0:
            raise ValueError(f"power is {power}; it must be at least 0")
        check_floor(floor)
        if not 0 < cap <= 1:
            raise ValueError(f"cap is {cap}; it is the largest keep probability, above 0 and at most 1")
        self.prune_ratio = float(prune_ratio)
        self.by = by
        self.power = float(power)
        self.floor = float(floor)
        self.cap = float(cap)
        self.ordered = bool(ordered)
        self.columns = (by,)

    def __repr__(self) -> str:
        return (
            f"Proportional(prune_ratio={self.prune_ratio:g}, by={self.by!r}, power={self.power:g}, "
            f"floor={self.floor:g}, cap={self.cap:g}, ordered={self.ordered})"
        )

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        num_samples = len(scores)
        num_kept = request.num_kept(num_samples, self.prune_ratio)
        self.check_target(num_samples - num_kept, num_samples)
        sizes = sizes_of(scores[self.by].numpy())
        probabilities = allocate(sizes**self.power, num_kept, self.floor, cap=self.cap)
        order = self._order(torch.from_numpy(sizes), request.generator) if self.ordered else None
        return KeepProbabilities(torch.from_numpy(probabilities), order=order)

    @staticmethod
    def _order(sizes: Tensor, generator: torch.Generator) -> Tensor:
        """Rising, equal ones at random."""
        shuffled = torch.randperm(len(sizes), generator=generator)
        return shuffled[sizes[shuffled].argsort(stable=True)]

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_some_are_kept(num_pruned, num_samples)
        if num_samples - num_pruned > self.cap * num_samples:
            share = (num_samples - num_pruned) / num_samples
            raise ValueError(
                f"cap is {self.cap:g}, but {share:.3g} of the samples are to be kept, so that the mean "
                f"keep probability would exceed it; raise cap to {share:.3g} or more, or leave out more"
            )
