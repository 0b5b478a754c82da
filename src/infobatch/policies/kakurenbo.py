"""KAKURENBO (NeurIPS 2023): hide samples that are learned and predicted with confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request
from infobatch.policies.options import check_kinds, take_prune_ratio
from infobatch.policies.ranking import ones_at
from infobatch.scores.table import ScoreTable

STEPS = ((0.3, 0.8), (0.6, 0.6), (0.8, 0.4))
"""Pairs (share of the epochs before annealing, factor on the prune ratio from there on)."""


@dataclass(frozen=True, eq=False)
class Kakurenbo(BiasedPolicy):
    """Hides samples with the lowest losses whose own class was predicted with confidence.

    Of the F N samples with the lowest losses those are left out whose own class was given at least a
    certain probability; the others are kept. F begins as the prune ratio and falls in :data:`STEPS`. All
    weights are N over the number kept, which for SGD equals the paper's learning rate times 1 / (1 - F).
    With a target F has no effect: confident samples are left out, lowest losses first, and where
    they are too few, the lowest of the others.

    Args:
        prune_ratio: The first F, in [0, 1); 0.3 is the paper's.
        confidence: The least probability of a hidden sample's own class, in [0.5, 1). Above one half the
            prediction is right. The default, 0.7, is the paper's.

    Source: Nguyen et al., KAKURENBO, NeurIPS 2023.
    """

    columns = ("last_loss", "confidence")
    refreshes = True

    prune_ratio: float = 0.3
    confidence: float = 0.7

    def __post_init__(self) -> None:
        check_kinds(self)
        if not 0.5 <= self.confidence < 1:
            raise ValueError(
                f"confidence is {self.confidence}; it is the least probability of a sample's own class "
                "with which it may be hidden, at least 0.5 (the prediction is then right) and less than "
                "1"
            )
        take_prune_ratio(self)

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_samples = len(scores)
        known = scores["confidence"].numpy() >= self.confidence  # false for NaN
        order = torch.randperm(num_samples, generator=request.generator).numpy()
        ranked = order[np.argsort(scores["last_loss"].numpy()[order], kind="stable")]  # NaN last
        lowest = ranked[: round(self.share(request) * num_samples)]
        hidden = np.count_nonzero(known[lowest])
        num_kept = request.num_kept(num_samples, hidden / num_samples)
        known_first = np.concatenate([ranked[known[ranked]], ranked[~known[ranked]]])
        return ones_at(known_first[num_samples - num_kept :], num_samples) * (num_samples / num_kept)

    def share(self, request: Request) -> float:
        """F, the largest share of the samples that the coming epoch hides."""
        before_annealing = max(1, request.prunable.stop)
        factors = [factor for start, factor in STEPS if request.epoch >= start * before_annealing]
        return self.prune_ratio * min(factors, default=1.0)
