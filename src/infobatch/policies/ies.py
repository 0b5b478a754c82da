"""IES (ICLR 2025): a sample whose loss no longer bends is learned, and is left out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request
from infobatch.policies.options import check_kinds, use_plain_numbers
from infobatch.policies.ranking import highest, ones_at
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class IES(BiasedPolicy):
    """Leaves a sample out while the second differences of its losses are small.

    The second difference is d(t) = l(t) - 2 l(t-1) + l(t-2), over the losses l of successive epochs. A
    sample is left out while the mean of its last three |d| is below the threshold, and may come back,
    since the losses of left-out samples are observed, too. All weights are 1. With a target the
    threshold has no effect: the samples with the smallest mean of the known |d| are left out, and
    then random ones among those that have no second difference yet.

    Args:
        threshold: Above 0, in the unit of the loss. The default, 1e-3, is the authors' for CIFAR-10.

    Source: Instance-dependent Early Stopping, ICLR 2025.
    """

    columns = ("last_loss", "recent_losses")
    refreshes = True

    threshold: float = 1e-3

    def __post_init__(self) -> None:
        check_kinds(self)
        if not 0 < self.threshold < math.inf:
            raise ValueError(
                f"threshold is {self.threshold}; it is the mean second difference of a sample's loss "
                "below which it is left out, a number above 0"
            )
        use_plain_numbers(self)

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        bends = mean_bends(scores["recent_losses"].numpy())
        whole = ~np.isnan(scores["recent_losses"].numpy()).any(1)
        learned = np.count_nonzero(whole & (bends < self.threshold))
        ranks = bends if request.num_pruned is not None else np.where(whole, bends, np.nan)
        num_kept = request.num_kept(len(scores), learned / len(scores))
        return ones_at(highest(ranks, num_kept, request.generator), len(scores))


def mean_bends(losses: np.ndarray) -> np.ndarray:
    """The mean absolute second difference along each row of ``losses`` (N, T), float64 (N,).

    Differences that involve NaN are passed over; a row without any other has NaN.
    """
    bends = np.abs(np.diff(losses.astype(np.float64), n=2, axis=1))
    known = np.count_nonzero(~np.isnan(bends), axis=1)
    return np.where(known, np.nansum(bends, axis=1) / np.maximum(known, 1), np.nan)
