"""IES (ICLR 2025): a sample whose loss no longer bends is learned, and stops early by itself."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request, highest, ones_at
from infobatch.scores.table import ScoreTable


class IES(BiasedPolicy):
    """Leaves a sample out while the last second differences of its loss are small.

    d(t) = l(t) - 2 l(t-1) + l(t-2), over a sample's losses of successive epochs; it is left out while
    the mean of its last three |d| is below ``threshold``, above 0 and in the loss's unit, and comes back
    when it is not. Weights are 1. With an exact number to leave out the threshold has no say: it is
    those with the smallest mean of the |d| that are known, and at random those that have none yet.
    """

    columns = ("last_loss", "recent_losses")
    refreshes = True

    def __init__(self, threshold: float = 1e-3) -> None:
        if not 0 < threshold < math.inf:
            raise ValueError(
                f"threshold is {threshold}; it is the mean second difference of a sample's loss below "
                "which it is left out, a number above 0"
            )
        self.threshold = float(threshold)

    def __repr__(self) -> str:
        return f"IES(threshold={self.threshold:g})"

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        bends = mean_bends(scores["recent_losses"].numpy())
        whole = ~np.isnan(scores["recent_losses"].numpy()).any(1)
        learned = np.count_nonzero(whole & (bends < self.threshold))
        ranks = bends if request.num_pruned is not None else np.where(whole, bends, np.nan)
        num_kept = request.num_kept(len(scores), learned / len(scores))
        return ones_at(highest(ranks, num_kept, request.generator), len(scores))


def mean_bends(losses: np.ndarray) -> np.ndarray:
    """The mean absolute second difference along each row of ``losses`` (N, T), float64 (N,).

    Over those that no NaN is part of; NaN where there are none.
    """
    bends = np.abs(np.diff(losses.astype(np.float64), n=2, axis=1))
    known = np.count_nonzero(~np.isnan(bends), axis=1)
    return np.where(known, np.nansum(bends, axis=1) / np.maximum(known, 1), np.nan)
