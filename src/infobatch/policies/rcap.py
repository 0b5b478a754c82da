"""RCAP (UAI 2025): a budget for each class, and within a class harder samples more often."""

from __future__ import annotations

import math
from dataclasses import InitVar, dataclass, field

import numpy as np
import torch
from torch import Tensor

from infobatch.policies.allocation import SMALLEST, allocate, whole
from infobatch.policies.base import BiasedPolicy, Request, check_some_are_kept
from infobatch.policies.options import check_kinds, set_fields, take_prune_ratio
from infobatch.policies.per_sample import Numbers, check_every_class_is_kept, classes_of, members_of
from infobatch.policies.ranking import highest, ones_at
from infobatch.scores.columns import IndexArray
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class RCAP(BiasedPolicy):
    """Draws a number of samples from each class in proportion to sqrt(n_c L_c), harder ones more often.

    Class c has n_c samples and mean loss L_c; at least one of its samples is drawn, and at most all.
    Within the class, samples are drawn without replacement with probabilities proportional to
    exp(l / beta). The losses l are last losses, at most log C for C classes, which is also the loss of a
    sample without a score. All weights are 1.

    Args:
        labels: The class of each sample, integers (N,).
        prune_ratio: The share of *all* samples that an epoch leaves out, in [0, 1); 0.5 as for
            :class:`RandomPruning`.
        beta: The temperature, above 0; the lower, the more the hardest samples are preferred. The
            authors try 1/3 to 3; 1, the default, lies in the middle.

    Source: RCAP, UAI 2025; docs/methods/rcap.md says where its authors' code differs.
    """

    labels: InitVar[Numbers | None] = None
    prune_ratio: float = 0.5
    beta: float = 1.0
    num_samples: int = field(init=False, repr=False)
    classes: IndexArray = field(init=False, repr=False)
    """The class of each sample, int64 (N,), numbered from 0."""
    num_classes: int = field(init=False, repr=False)

    def __post_init__(self, labels: Numbers | None) -> None:
        check_kinds(self)
        if not 0 < self.beta < math.inf:
            raise ValueError(f"beta is {self.beta}; it is a temperature, a number above 0")
        classes = classes_of(labels, "RCAP")
        set_fields(self, num_samples=len(classes), classes=classes, num_classes=int(classes.max()) + 1)
        take_prune_ratio(self)

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_kept = request.num_kept(len(scores), self.prune_ratio, least=self.num_classes)
        clipped = clipped_losses(scores["last_loss"].numpy(), self.num_classes)
        sizes = class_sizes(clipped, self.classes, num_kept)
        drawn = [
            members[drawn_by(clipped[members] / self.beta, size, request.generator)]
            for members, size in zip(members_of(self.classes), sizes.tolist(), strict=True)
        ]
        return ones_at(np.concatenate(drawn), len(scores))

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_some_are_kept(num_pruned, num_samples)
        check_every_class_is_kept(num_pruned, num_samples, self.num_classes)


def clipped_losses(losses: np.ndarray, num_classes: int) -> np.ndarray:
    """The ``losses`` (N,) clipped to [0, log C], float64; NaN becomes log C, that of a random guess."""
    guess = math.log(num_classes)
    clipped: np.ndarray = np.clip(np.nan_to_num(losses.astype(np.float64), nan=guess), 0, guess)
    return clipped


def class_sizes(losses: np.ndarray, classes: IndexArray, total: int) -> IndexArray:
    """The number of samples to draw of each class c, int64 (C,): as sqrt(n_c L_c), and from 1 to n_c."""
    counts: IndexArray = np.bincount(classes)
    means = np.bincount(classes, weights=losses) / counts
    return whole(counts * allocate(np.sqrt(means / counts), total, SMALLEST, counts), total, counts)


def drawn_by(logits: np.ndarray, num: int, generator: torch.Generator) -> IndexArray:
    """Draw ``num`` places in ``logits`` (n,) without replacement, by the probabilities softmax(logits).

    The places drawn are those with the largest exp(logits) / e, where each e is an exponential variable,
    compared in logarithms.

    Source: Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006.
    """
    uniform = torch.rand(len(logits), generator=generator, dtype=torch.float64).numpy()
    return highest(logits - np.log(-np.log1p(-uniform)), num, generator)
