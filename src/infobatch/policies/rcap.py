"""RCAP (UAI 2025): a budget for each class, and within it the harder samples more often."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from infobatch.policies.allocation import SMALLEST, allocate, whole
from infobatch.policies.base import (
    BiasedPolicy,
    Request,
    check_prune_ratio,
    check_some_are_kept,
    highest,
    ones_at,
)
from infobatch.policies.per_sample import Numbers, check_every_class_is_kept, classes_of, members_of
from infobatch.scores.columns import IndexArray
from infobatch.scores.table import ScoreTable


class RCAP(BiasedPolicy):
    """Draws from class c, of n_c samples and mean loss L_c, a number in proportion to sqrt(n_c L_c).

    At most n_c and at least one. Within the class they are drawn without replacement, each with
    probability in proportion to exp(l / beta). Losses l are last losses, at most log C for C classes;
    a sample without a score has that. ``labels``: integers (N,), the class of each sample.
    ``prune_ratio``: r in [0, 1), the share of *all* samples left out of an epoch. ``beta``: above 0; the
    authors try 1/3 to 3. Weights are 1.
    """

    def __init__(
        self, labels: Numbers | None = None, prune_ratio: float = 0.5, beta: float = 1.0
    ) -> None:
        check_prune_ratio(prune_ratio)
        if not 0 < beta < math.inf:
            raise ValueError(f"beta is {beta}; it is a temperature, a number above 0")
        self.classes = classes_of(labels, "RCAP")
        self.num_classes = int(self.classes.max()) + 1
        self.num_samples = len(self.classes)
        self.prune_ratio = float(prune_ratio)
        self.beta = float(beta)

    def __repr__(self) -> str:
        return f"RCAP(prune_ratio={self.prune_ratio:g}, beta={self.beta:g})"

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_kept = max(self.num_classes, request.num_kept(len(scores), self.prune_ratio))
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
    """``losses`` (N,) between 0 and log C, the loss of a guess at random, which NaN is taken for."""
    guess = math.log(num_classes)
    clipped: np.ndarray = np.clip(np.nan_to_num(losses.astype(np.float64), nan=guess), 0, guess)
    return clipped


def class_sizes(losses: np.ndarray, classes: IndexArray, total: int) -> IndexArray:
    """How many samples of each class, int64 (C,): in proportion to sqrt(n_c L_c), from 1 to n_c."""
    counts: IndexArray = np.bincount(classes)
    means = np.bincount(classes, weights=losses) / counts
    return whole(counts * allocate(np.sqrt(means / counts), total, SMALLEST, counts), total, counts)


def drawn_by(logits: np.ndarray, num: int, generator: torch.Generator) -> IndexArray:
    """``num`` places in ``logits`` (n,), drawn one after the other with probabilities softmax(logits).

    Without replacement: the largest weights exp(logits), once each is divided by an exponential variable
    (Efraimidis & Spirakis, 2006), in logarithms.
    """
    uniform = torch.rand(len(logits), generator=generator, dtype=torch.float64).numpy()
    return highest(logits - np.log(-np.log1p(-uniform)), num, generator)
