"""Keep probabilities that grow with the loss, or with the norm of the gradient, above a floor."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from infobatch.policies.allocation import allocate, sizes_of
from infobatch.policies.base import KeepProbabilities, Policy, Request, check_some_are_kept
from infobatch.policies.options import (
    check_column,
    check_floor,
    check_kinds,
    set_fields,
    take_prune_ratio,
)
from infobatch.scores.table import ScoreTable

LOSSES = ("last_loss", "smoothed_loss")
SIZES = (*LOSSES, "gradient_norm", "smoothed_norm")


@dataclass(frozen=True, eq=False)
class Proportional(Policy):
    """Keeps samples with probability clip(c size^power, floor k, cap), with c such that their mean is k.

    The mean k is 1 - r, or what a target leaves. A sample without a score counts as the hardest, one
    with a negative loss as one with loss 0. The policy is importance sampling without replacement.

    Args:
        prune_ratio: r, the share of *all* samples that an epoch leaves out, in [0, 1). The default,
            0.35, saves about what :class:`InfoBatch` does in a long run. With a target it has no effect.
        by: The score column that holds the sizes: last_loss, smoothed_loss, or, where ``update`` is
            given gradient norms, gradient_norm or smoothed_norm.
        power: At least 0. With 1, the default, probabilities are proportional to the sizes, with 0.5 to
            their roots; 0 is random pruning.
        floor: The least probability, in units of k, in (0, 1]. Weights reach 1 / (floor k): with the
            defaults, 0.3 and k = 0.65, about 5.
        cap: The largest keep probability, at most 1 and at least k. By default there is none below 1.
        ordered: Whether the draw passes over the samples in the order of their sizes, so that it keeps
            as many easy and as many hard ones as it should. By default it does not, which saves a sort.

    Source: Katharopoulos and Fleuret, Not All Samples Are Created Equal, ICML 2018.
    """

    prune_ratio: float = 0.35
    by: str = "last_loss"
    power: float = 1.0
    floor: float = 0.3
    cap: float = 1.0
    ordered: bool = False
    columns: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_kinds(self)
        check_column(self.by, SIZES)
        if not 0 <= self.power < math.inf:
            raise ValueError(f"power is {self.power}; it must be a number of at least 0")
        check_floor(self.floor)
        if not 0 < self.cap <= 1:
            raise ValueError(
                f"cap is {self.cap}; it is the largest keep probability, above 0 and at most 1"
            )
        take_prune_ratio(self)
        set_fields(self, columns=(self.by,), takes_sizes=self.by in LOSSES)

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        num_samples = len(scores)
        num_kept = request.num_kept(num_samples, self.prune_ratio)
        self.check_target(num_samples - num_kept, num_samples)
        sizes = sizes_of(scores[self.by].numpy())
        probabilities = allocate(sizes**self.power, num_kept, self.floor, cap=self.cap)
        order = _rising_order(torch.from_numpy(sizes), request.generator) if self.ordered else None
        return KeepProbabilities(torch.from_numpy(probabilities), order=order)

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_some_are_kept(num_pruned, num_samples)
        if num_samples - num_pruned > self.cap * num_samples:
            share = math.ceil(1e4 * (num_samples - num_pruned) / num_samples) / 1e4
            raise ValueError(
                f"cap is {self.cap:g}, but {share:g} of the samples are to be kept, so that the mean "
                f"keep probability would exceed it; raise cap to {share:g} or more, or leave out more"
            )


def _rising_order(sizes: Tensor, generator: torch.Generator) -> Tensor:
    """The places of ``sizes`` (N,) in rising order, equal ones in random order."""
    shuffled = torch.randperm(len(sizes), generator=generator)
    return shuffled[sizes[shuffled].argsort(stable=True)]
