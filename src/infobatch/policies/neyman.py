"""Strata of smoothed loss, each sampled by how much it weighs in the gradient's noise."""

from __future__ import annotations

import numpy as np
import torch

from infobatch.policies.allocation import (
    allocate,
    check_column,
    check_floor,
    check_strata,
    root_mean_square,
    whole,
)
from infobatch.policies.base import (
    KeepProbabilities,
    Policy,
    Request,
    check_prune_ratio,
    check_some_are_kept,
    rank_strata,
)
from infobatch.scores.columns import IndexArray
from infobatch.scores.table import ScoreTable

SIZES = ("last_loss", "gradient_norm")


class Neyman(Policy):
    """Equally large strata by smoothed loss, each drawn from in proportion to the size of its losses.

    Of a stratum with N_b samples n_b are drawn, proportional to N_b times the root mean square of their
    sizes: Neyman's allocation (1934), which gives the least variance for a total if these are the norms
    of gradients. ``prune_ratio``: r in [0, 1), the share of *all* samples left out of an epoch. ``by``:
    the score column that the sizes are of: last_loss, or, where ``update`` is given gradient norms,
    gradient_norm. ``strata``: how many, 2 to 200. ``floor``: in (0, 1], the least share of a stratum
    that is drawn, as a share of the mean; weights N_b / n_b reach 1 / (floor k). Samples without a score
    are in the last strata and count as much as the hardest.
    """

    def __init__(
        self,
        prune_ratio: float = 0.35,
        by: str = "last_loss",
        strata: int = 10,
        floor: float = 0.3,
    ) -> None:
        check_prune_ratio(prune_ratio)
        check_column(by, SIZES)
        check_floor(floor)
        check_strata(strata)
        self.prune_ratio = float(prune_ratio)
        self.by = by
        self.columns = ("smoothed_loss", by)
        self.strata = int(strata)
        self.floor = float(floor)

    def __repr__(self) -> str:
        return (
            f"Neyman(prune_ratio={self.prune_ratio:g}, by={self.by!r}, strata={self.strata}, "
            f"floor={self.floor:g})"
        )

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        num_samples = len(scores)
        num_kept = request.num_kept(num_samples, self.prune_ratio)
        num_strata = min(self.strata, num_kept)  # one of each is drawn
        ends = np.linspace(0, num_samples, num_strata + 1).round().astype(np.int64)
        counts: IndexArray = ends[1:] - ends[:-1]
        smoothed = scores["smoothed_loss"]
        kept = rank_strata(smoothed, counts[:-1].tolist(), [1.0] * (num_strata - 1), request.generator)
        assert kept.strata is not None
        strata = kept.strata.numpy()
        sizes = root_mean_square(scores[self.by].numpy(), strata, num_strata)
        unscored = np.bincount(strata[np.isnan(smoothed.numpy())], minlength=num_strata) > 0
        sizes[unscored] = sizes.max()
        shares = counts * allocate(sizes, num_kept, self.floor, counts)
        drawn = whole(shares, num_kept, counts)
        return KeepProbabilities(torch.from_numpy(drawn / counts), kept.strata)

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_some_are_kept(num_pruned, num_samples)
