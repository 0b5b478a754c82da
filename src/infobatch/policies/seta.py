"""SeTa (CVPR 2025): a window of difficulty that slides from easy to hard, again and again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request
from infobatch.policies.options import check_kinds, take_prune_ratio
from infobatch.policies.ranking import ones_at
from infobatch.scores.columns import IndexArray
from infobatch.scores.table import ScoreTable

STEPS = 50
"""The most steps of Lloyd's algorithm; on a line a few dozen suffice."""


@dataclass(frozen=True, eq=False)
class SeTa(BiasedPolicy):
    """Drops a random share, groups the rest by loss, and keeps a window of neighboring groups.

    Of the samples that a random share r leaves, k-means on a line makes g groups by last loss, in rising
    order. Epoch t keeps w = round(alpha g) of them, from group t mod (g - w + 1) on; t counts from the
    first prunable epoch. All weights are 1. With a target r has no effect: as many samples as it asks
    for are drawn at random from the window, which takes in neighboring groups, harder ones first, where
    it has too few.

    Args:
        prune_ratio: r, in [0, 1).
        groups: g, at least 2.
        alpha: The share of the groups that is kept, in (0, 1]. The defaults, 0.1, 5 and 0.9, are those
            of the authors' CIFAR runs.

    Source: SeTa, CVPR 2025, by its authors' code.
    """

    prune_ratio: float = 0.1
    groups: int = 5
    alpha: float = 0.9

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.groups < 2 or not 0 < self.alpha <= 1 or round(self.alpha * self.groups) < 1:
            raise ValueError(
                f"groups is {self.groups} and alpha {self.alpha}; there must be at least 2 groups, and "
                "alpha, in (0, 1], must keep at least one of them"
            )
        take_prune_ratio(self)

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
    """Group rising ``losses`` (n,) by k-means; group j is ``losses[bounds[j]:bounds[j + 1]]``.

    It starts from the quantiles. Infinite losses, of samples without a score, belong to the last group.
    A group is empty where there are fewer distinct losses than groups.
    """
    finite = losses[np.isfinite(losses)].astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(finite)])
    bounds = np.linspace(0, len(finite), num_groups + 1).round().astype(np.int64)
    for _ in range(STEPS):
        sizes = np.maximum(np.diff(bounds), 1)
        centers = np.maximum.accumulate(np.diff(sums[bounds]) / sizes)
        between = (centers[1:] + centers[:-1]) / 2
        inner = np.searchsorted(finite, between, side="right")
        moved = np.concatenate([[0], inner, [len(finite)]])
        if np.array_equal(moved, bounds):
            break
        bounds = moved
    whole: IndexArray = np.append(bounds[:-1], len(losses))
    return whole
