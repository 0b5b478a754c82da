"""Strata of smoothed loss, each sampled by how much it adds to the gradient noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from infobatch.policies.allocation import allocate, root_mean_square, whole
from infobatch.policies.base import KeepProbabilities, Policy, Request, check_some_are_kept
from infobatch.policies.options import (
    check_column,
    check_floor,
    check_kinds,
    check_num_strata,
    set_fields,
    take_prune_ratio,
)
from infobatch.policies.ranking import strata_by_rank
from infobatch.scores.columns import IndexArray
from infobatch.scores.table import ScoreTable

SIZES = ("last_loss", "gradient_norm")


@dataclass(frozen=True, eq=False)
class Neyman(Policy):
    """Cuts samples into equally large strata by smoothed loss, and keeps more where losses are large.

    From a stratum of N_b samples n_b are drawn, in proportion to N_b times the root mean square of the
    samples' sizes. If the sizes are the norms of the samples' gradients, no other allocation has less
    gradient noise. Weights are N_b / n_b. Samples without a score are in the last strata, and count as
    much as the hardest.

    Args:
        prune_ratio: The share of *all* samples that an epoch leaves out, in [0, 1). The default, 0.35,
            saves about what :class:`InfoBatch` does in a long run. With a target it has no effect.
        by: The score column that holds the sizes: last_loss, or gradient_norm, where ``update`` is given
            gradient norms.
        strata: The number of strata, 2 to 200. The default, 10, leaves enough samples in each for a
            stable mean.
        floor: The least share of a stratum that is drawn, in units of the mean share k, in (0, 1].
            Weights reach 1 / (floor k): with the defaults, 0.3 and k = 0.65, about 5.

    Source: Neyman, On the two different aspects of the representative method, 1934.
    """

    prune_ratio: float = 0.35
    by: str = "last_loss"
    strata: int = 10
    floor: float = 0.3
    columns: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_kinds(self)
        check_column(self.by, SIZES)
        check_floor(self.floor)
        check_num_strata(self.strata)
        take_prune_ratio(self)
        set_fields(self, columns=("smoothed_loss", self.by), takes_sizes=self.by == "last_loss")

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        num_samples = len(scores)
        num_kept = request.num_kept(num_samples, self.prune_ratio)
        num_strata = min(self.strata, num_kept)  # one of each is drawn
        ends = np.linspace(0, num_samples, num_strata + 1).round().astype(np.int64)
        counts: IndexArray = ends[1:] - ends[:-1]
        smoothed = scores["smoothed_loss"]
        strata = strata_by_rank(smoothed, counts[:-1].tolist(), request.generator)
        sizes = root_mean_square(scores[self.by].numpy(), strata.numpy(), num_strata)
        unscored = np.bincount(strata[smoothed.isnan()].numpy(), minlength=num_strata) > 0
        sizes[unscored] = sizes.max()
        shares = counts * allocate(sizes, num_kept, self.floor, counts)
        drawn = whole(shares, num_kept, counts)
        return KeepProbabilities(torch.from_numpy(drawn / counts), strata)

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_some_are_kept(num_pruned, num_samples)
