"""KAKURENBO (NeurIPS 2023): hides what is learned and known with confidence, and looks at it again."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request, check_prune_ratio, ones_at
from infobatch.scores.table import ScoreTable

STEPS = ((0.3, 0.8), (0.6, 0.6), (0.8, 0.4))
"""From this share of the epochs before annealing on, this part of the prune ratio."""


class Kakurenbo(BiasedPolicy):
    """Hides samples with the lowest losses, if their own class is given a high probability.

    Of the F N lowest losses those are left out whose class was given at least ``confidence``, in
    [0.5, 1) (above one half the prediction is right); the others move back. F begins as ``prune_ratio``,
    in [0, 1), and falls in :data:`STEPS`. All weights are N over the number kept, which for SGD is the
    paper's learning rate x 1 / (1 - F). With an exact number to leave out F has no say: it is those that
    qualify, lowest losses first, then the lowest of the others.
    """

    columns = ("last_loss", "confidence")
    refreshes = True

    def __init__(self, prune_ratio: float = 0.3, confidence: float = 0.7) -> None:
        check_prune_ratio(prune_ratio)
        if not 0.5 <= confidence < 1:
            raise ValueError(
                f"confidence is {confidence}; it is the least probability of a sample's own class with "
                "which it may be hidden, at least 0.5 (the prediction is then right) and less than 1"
            )
        self.prune_ratio = float(prune_ratio)
        self.confidence = float(confidence)

    def __repr__(self) -> str:
        return f"Kakurenbo(prune_ratio={self.prune_ratio:g}, confidence={self.confidence:g})"

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
        """F, the largest share that the coming epoch hides."""
        before_annealing = max(1, request.prunable.stop)
        parts = [part for start, part in STEPS if request.epoch >= start * before_annealing]
        return self.prune_ratio * min(parts, default=1.0)
