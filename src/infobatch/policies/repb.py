"""RePB (ICLR 2026): leave out samples below their batch's mean loss, and weigh them by their absence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request
from infobatch.policies.options import take_prune_ratio
from infobatch.policies.ranking import ones_at
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class RePB(BiasedPolicy):
    """Leaves out, with probability rho, samples whose last loss lay below their batch's mean.

    A sample that was left out comes back with probability 1 - rho. A sample's weight is E / N: the
    number of epochs so far over the number of those in which it was selected, the coming epoch counted
    in both. The weight averages to 1 over a run, but it is not the inverse of the sample's chance in any
    one epoch. With a target rho has no effect: samples to leave out are drawn from those below the mean,
    and where these are too few, from the others.

    Args:
        prune_ratio: Rho, in [0, 1); 0.5 as for :class:`InfoBatch`.

    Source: RePB, ICLR 2026, by its description.
    """

    columns = ("below_batch", "visits")

    prune_ratio: float = 0.5

    def __post_init__(self) -> None:
        take_prune_ratio(self)

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_samples = len(scores)
        order = torch.randperm(num_samples, generator=request.generator).numpy()
        below = scores["below_batch"].numpy()[order] > 0
        num_pruned = request.num_pruned
        if num_pruned is None:
            chances = torch.rand(num_samples, generator=request.generator, dtype=torch.float32)
            num_pruned = int(np.count_nonzero(below & (chances.numpy() < self.prune_ratio)))
        num_kept = request.nearest(num_samples - num_pruned, num_samples)
        others_first = order[np.argsort(below, kind="stable")]
        visits = scores["visits"].to(torch.float32)
        return ones_at(others_first[:num_kept], num_samples) * ((request.epoch + 1) / (visits + 1))
