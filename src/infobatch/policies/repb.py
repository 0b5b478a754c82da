"""RePB (ICLR 2026): leave out what lies below its batch's mean, and weigh it by its absence."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from infobatch.batching import nearest_multiple
from infobatch.policies.base import BiasedPolicy, Request, check_prune_ratio, ones_at
from infobatch.scores.table import ScoreTable


class RePB(BiasedPolicy):
    """Leaves out, with probability rho, samples whose last loss lay below their batch's mean.

    A sample that was left out comes back with probability 1 - rho. Its weight is E / N, with E the
    epochs so far and N those it was selected in, the coming one counted in both: its average over a run
    is 1, but it is not the inverse of the chance in any epoch. ``prune_ratio``: rho in [0, 1). With an
    exact number to leave out rho has no say: so many are drawn from the samples below, and then from the
    others where they are too few.
    """

    columns = ("below_batch", "visits")

    def __init__(self, prune_ratio: float = 0.5) -> None:
        check_prune_ratio(prune_ratio)
        self.prune_ratio = float(prune_ratio)

    def __repr__(self) -> str:
        return f"RePB(prune_ratio={self.prune_ratio:g})"

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_samples = len(scores)
        order = torch.randperm(num_samples, generator=request.generator).numpy()
        below = scores["below_batch"].numpy()[order] > 0
        num_pruned = request.num_pruned
        if num_pruned is None:
            chances = torch.rand(num_samples, generator=request.generator).numpy()
            num_pruned = int(np.count_nonzero(below & (chances < self.prune_ratio)))
        num_kept = nearest_multiple(max(1, num_samples - num_pruned), request.multiple, num_samples)
        others_first = order[np.argsort(below, kind="stable")]
        visits = scores["visits"].to(torch.float32)
        return ones_at(others_first[:num_kept], num_samples) * ((request.epoch + 1) / (visits + 1))
