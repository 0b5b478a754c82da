"""The larger a class, the more of it is left out: what is done by hand with rare events."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field

import numpy as np
import torch

from infobatch.policies.allocation import SMALLEST, allocate, whole
from infobatch.policies.base import KeepProbabilities, Policy, Request, check_some_are_kept
from infobatch.policies.options import set_fields, take_prune_ratio
from infobatch.policies.per_sample import Numbers, check_every_class_is_kept, classes_of
from infobatch.scores.columns import IndexArray
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class Undersampling(Policy):
    """Keeps as many samples of each class as of the others, as far as there are so many.

    Of two classes the rarer one is thus kept whole, and what is left out is a random part of the other
    ("negative down-sampling"). Weights are one over a class's share, so that probabilities stay
    calibrated. It goes by classes alone: within one, all samples are alike.

    Args:
        labels: The class of each sample, integers (N,).
        prune_ratio: The share of *all* samples that an epoch leaves out, in [0, 1). With a target it has
            no effect.

    Source: weighted case-control sampling; He et al., Practical Lessons from Predicting Clicks on Ads at
    Facebook, 2014, section 6.2, with weights in place of a correction afterwards.
    """

    columns = ()

    labels: InitVar[Numbers | None] = None
    prune_ratio: float = 0.5
    num_samples: int = field(init=False, repr=False)
    classes: IndexArray = field(init=False, repr=False)
    """The class of each sample, int64 (N,)."""
    counts: IndexArray = field(init=False, repr=False)
    """The number of samples of each class, int64 (C,)."""

    def __post_init__(self, labels: Numbers | None) -> None:
        classes = classes_of(labels, "Undersampling")
        set_fields(self, num_samples=len(classes), classes=classes, counts=np.bincount(classes))
        take_prune_ratio(self)

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        num_samples, num_classes = len(self.classes), len(self.counts)
        num_kept = request.num_kept(num_samples, self.prune_ratio, least=num_classes)
        shares = self.counts * allocate(1 / self.counts, num_kept, SMALLEST, self.counts)
        probabilities = whole(shares, num_kept, self.counts) / self.counts
        order = torch.randperm(num_samples, generator=request.generator).numpy()
        order = order[np.argsort(self.classes[order], kind="stable")]  # class after class
        return KeepProbabilities(
            torch.from_numpy(probabilities[self.classes]), order=torch.from_numpy(order)
        )

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_some_are_kept(num_pruned, num_samples)
        check_every_class_is_kept(num_pruned, num_samples, len(self.counts))
