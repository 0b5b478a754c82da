"""Epsilon-greedy and UCB, two bandits that keep the samples with a high smoothed loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request
from infobatch.policies.options import check_kinds, take_prune_ratio
from infobatch.policies.ranking import highest, ones_at
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class EpsilonGreedy(BiasedPolicy):
    """Keeps the samples with the highest smoothed loss, and a few random others; all weights are 1.

    Args:
        prune_ratio: The share of *all* samples that an epoch leaves out, in [0, 1); 0.5 as for
            :class:`RandomPruning`.
        epsilon: The share of the kept samples that are drawn at random, in [0, 1]. The default, 0.1, is
            this library's choice.

    Source: Raju, Daruwalla and Lipasti, Accelerating Deep Learning with Dynamic Data Pruning, 2021.
    """

    columns = ("smoothed_loss",)

    prune_ratio: float = 0.5
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_kinds(self)
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon is {self.epsilon}; it is a share of the kept, between 0 and 1")
        take_prune_ratio(self)

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_kept = request.num_kept(len(scores), self.prune_ratio)
        num_random = round(self.epsilon * num_kept)
        ranked = highest(scores["smoothed_loss"].numpy(), len(scores), request.generator)
        top, rest = np.split(ranked, [num_kept - num_random])
        drawn = torch.randperm(len(rest), generator=request.generator)[:num_random].numpy()
        return ones_at(np.concatenate([top, rest[drawn]]), len(scores))


@dataclass(frozen=True, eq=False)
class UCB(BiasedPolicy):
    """Keeps the samples with the highest upper confidence bound s + c sqrt(log t / n).

    Here s is the smoothed loss, n the number of times the sample was trained, and t the number of epochs
    so far. All weights are 1.

    Args:
        prune_ratio: The share of *all* samples that an epoch leaves out, in [0, 1); 0.5 as for
            :class:`RandomPruning`.
        c: How much a sample gains that was rarely trained, at least 0; 1 by default.

    Source: Raju, Daruwalla and Lipasti, Accelerating Deep Learning with Dynamic Data Pruning, 2021.
    """

    columns = ("smoothed_loss", "visits")

    prune_ratio: float = 0.5
    c: float = 1.0

    def __post_init__(self) -> None:
        check_kinds(self)
        if not 0 <= self.c < math.inf:
            raise ValueError(f"c is {self.c}; it must be a number of at least 0")
        take_prune_ratio(self)

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_kept = request.num_kept(len(scores), self.prune_ratio)
        visits = np.maximum(scores["visits"].numpy(), 1)
        bonus = self.c * np.sqrt(math.log(max(1, request.epoch)) / visits)
        bounds = scores["smoothed_loss"].numpy() + bonus
        return ones_at(highest(bounds, num_kept, request.generator), len(scores))
