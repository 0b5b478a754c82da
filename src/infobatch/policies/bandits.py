"""Raju, Daruwalla and Lipasti, *Accelerating Deep Learning with Dynamic Data Pruning* (2021)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request, check_prune_ratio, highest, ones_at
from infobatch.scores.table import ScoreTable


class EpsilonGreedy(BiasedPolicy):
    """Keeps the samples with the highest smoothed loss, and a share epsilon of the kept at random.

    ``prune_ratio``: r in [0, 1), the share of *all* samples left out of an epoch. ``epsilon``: in
    [0, 1]. Weights are 1.
    """

    columns = ("smoothed_loss",)

    def __init__(self, prune_ratio: float = 0.5, epsilon: float = 0.1) -> None:
        check_prune_ratio(prune_ratio)
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon is {epsilon}; it is a share of the kept, between 0 and 1")
        self.prune_ratio = float(prune_ratio)
        self.epsilon = float(epsilon)

    def __repr__(self) -> str:
        return f"EpsilonGreedy(prune_ratio={self.prune_ratio:g}, epsilon={self.epsilon:g})"

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_kept = request.num_kept(len(scores), self.prune_ratio)
        num_random = round(self.epsilon * num_kept)
        ranked = highest(scores["smoothed_loss"].numpy(), len(scores), request.generator)
        top, rest = np.split(ranked, [num_kept - num_random])
        drawn = torch.randperm(len(rest), generator=request.generator)[:num_random].numpy()
        return ones_at(np.concatenate([top, rest[drawn]]), len(scores))


class UCB(BiasedPolicy):
    """Keeps the samples with the highest upper confidence bound s + c sqrt(log t / n).

    s is the smoothed loss, n how often the sample was trained, t the number of epochs so far.
    ``prune_ratio``: r in [0, 1), the share of *all* samples left out of an epoch. ``c``: the weight of
    what is little known, at least 0. Weights are 1.
    """

    columns = ("smoothed_loss", "visits")

    def __init__(self, prune_ratio: float = 0.5, c: float = 1.0) -> None:
        check_prune_ratio(prune_ratio)
        if not 0 <= c < math.inf:
            raise ValueError(f"c is {c}; it must be a number of at least 0")
        self.prune_ratio = float(prune_ratio)
        self.c = float(c)

    def __repr__(self) -> str:
        return f"UCB(prune_ratio={self.prune_ratio:g}, c={self.c:g})"

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_kept = request.num_kept(len(scores), self.prune_ratio)
        visits = np.maximum(scores["visits"].numpy(), 1)
        bonus = self.c * np.sqrt(math.log(max(1, request.epoch)) / visits)
        bounds = scores["smoothed_loss"].numpy() + bonus
        return ones_at(highest(bounds, num_kept, request.generator), len(scores))
