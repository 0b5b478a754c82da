"""SeTa (CVPR 2025): a window of difficulty that slides from easy to hard, again and again."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request, check_prune_ratio, ones_at
from infobatch.scores.columns import IndexArray
from infobatch.scores.table import ScoreTable

STEPS = 50
"""Lloyd's algorithm on a line; a few dozen steps suffice."""


class SeTa(BiasedPolicy):
    """Drops a random share, groups the rest by loss, and keeps a window of neighbouring groups.

    Of the samples that a random share r leaves, 1-D k-means makes ``groups`` g groups by last loss, in
    rising order; of these epoch t keeps the w = round(alpha g) from the (t mod (g - w + 1))-th on, t
    counted from the first prunable epoch. ``prune_ratio``: r in [0, 1). ``alpha``: in (0, 1]. The
    defaults are those of the authors' CIFAR runs. Weights are 1. With an exact number to leave out r has
    no say: so many are drawn at random from the window, which takes in its neighbours, harder first,
    where it has too few.
    """

    def __init__(self, prune_ratio: float = 0.1, groups: int = 5, alpha: float = 0.9) -> None:
        check_prune_ratio(prune_ratio)
        if groups < 2 or not 0 < alpha <= 1 or round(alpha * groups) < 1:
            raise ValueError(
                f"groups is {groups} and alpha {alpha}; there must be at least 2 groups, and alpha, in "
                "(0, 1], must keep at least one of them"
            )
        self.prune_ratio = float(prune_ratio)
        self.groups = int(groups)
        self.alpha = float(alpha)

    def __repr__(self) -> str:
        return f"SeTa(prune_ratio={self.prune_ratio:g}, groups={self.groups}, alpha={self.alpha:g})"

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_samples = len(scores)
        losses = np.nan_to_num(scores["last_loss"].numpy(), nan=np.inf)
        order = torch.randperm(num_samples, generator=request.generator).numpy()
        pool = order if request.num_pruned else order[: request.num_kept(num_samples, self.prune_ratio)]
        pool = pool[np.argsort(losses[pool], kind="stable")]
        start, stop = self._window(losses[pool], request)
        num_kept = request.num_kept(num_samples, 1 - (stop - start) / num_samples)
        stop = max(stop, start + num_kept)
        window = pool[max(0, start - max(0, stop - len(pool))) : stop]
        drawn = torch.randperm(len(window), generator=request.generator)[:num_kept].numpy()
        return ones_at(window[drawn], num_samples)

    def _window(self, losses: np.ndarray, request: Request) -> tuple[int, int]:
        """Where, in rising ``losses``, this epoch's window begins and ends."""
        bounds = group_bounds(losses, self.groups)
        width = round(self.alpha * self.groups)
        turn = (request.epoch - request.prunable.start) % (self.groups - width + 1)
        return int(bounds[turn]), int(bounds[turn + width])


def group_bounds(losses: np.ndarray, num_groups: int) -> IndexArray:
    """k-means on a line: group j is ``losses[bounds[j]:bounds[j + 1]]``, of rising ``losses`` (n,).

    Samples without a score (infinite) belong to the last group. Starts from the quantiles; a group may
    come to be empty where there are fewer distinct losses than groups.
    """
    finite = losses[np.isfinite(losses)].astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(finite)])
    bounds = np.linspace(0, len(finite), num_groups + 1).round().astype(np.int64)
    for _ in range(STEPS):
        sizes = np.maximum(np.diff(bounds), 1)
        centres = np.maximum.accumulate(np.diff(sums[bounds]) / sizes)
        between = (centres[1:] + centres[:-1]) / 2
        inner = np.searchsorted(finite, between, side="right")
        moved = np.concatenate([[0], inner, [len(finite)]])
        if np.array_equal(moved, bounds):
            break
        bounds = moved
    whole: IndexArray = np.append(bounds[:-1], len(losses))
    return whole
