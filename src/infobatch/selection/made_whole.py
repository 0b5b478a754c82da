"""Keep probabilities changed so that they sum to a number of samples that can be drawn."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from infobatch.batching import EpochSizes
from infobatch.policies.base import KeepProbabilities


def made_whole(keep: KeepProbabilities, epoch_sizes: EpochSizes) -> KeepProbabilities:
    """The keep probabilities scaled so that they sum to a number of samples.

    Args:
        keep: Those of a policy.
        epoch_sizes: How many that may be.
    """
    probabilities = keep.probabilities.to(torch.float64)
    if keep.total(probabilities != 1) == 0:
        return keep
    num_samples = round(keep.total(torch.ones_like(probabilities)))
    expected = round(keep.total(probabilities))
    total = epoch_sizes.nearest(expected, num_samples)
    return replace(keep, probabilities=_with_sum(keep, probabilities, total, num_samples))


def _with_sum(keep: KeepProbabilities, probabilities: Tensor, total: int, num_samples: int) -> Tensor:
    """The probabilities scaled by a common factor to sum to ``total``; those that reach 1 stay there."""
    certain = probabilities >= 1
    num_certain = keep.total(certain)
    while True:
        rest = total - num_certain
        if rest <= 0:  # the certain ones alone are too many: all share the cut
            return probabilities * (total / keep.total(probabilities))
        factor = rest / keep.total(probabilities.masked_fill(certain, 0))
        reached = certain | (probabilities * factor >= 1)
        num_reached = keep.total(reached)
        if num_reached in (num_certain, num_samples):
            return (probabilities * factor).masked_fill_(certain, 1).clamp_(max=1)
        certain, num_certain = reached, num_reached
