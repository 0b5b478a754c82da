"""Keep probabilities changed so that they sum to a number of samples that can be drawn."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from infobatch.batching import LastBatch, nearest_multiple
from infobatch.policies.base import KeepProbabilities


def made_whole(
    keep: KeepProbabilities, multiple: int, least: int, last: LastBatch | None
) -> KeepProbabilities:
    """The keep probabilities scaled so that they sum to a number of samples.

    Args:
        keep: Those of a policy.
        multiple: See :func:`infobatch.selection.draw`; so are ``least`` and ``last``.
        least: The fewest samples to select.
        last: What the last batch may be.
    """
    probabilities = keep.per_sample()
    if bool((probabilities == 1).all()):
        return keep
    expected = round(float(probabilities.sum()))
    total = nearest_multiple(expected, multiple, len(probabilities), least, last)
    del probabilities  # 8 bytes a sample
    return replace(keep, probabilities=_with_sum(keep, total))


def _with_sum(keep: KeepProbabilities, total: int) -> Tensor:
    """The probabilities scaled by a common factor to sum to ``total``; those that reach 1 stay there."""
    probabilities = keep.probabilities.to(torch.float64)
    certain = probabilities >= 1
    while True:
        are_certain = keep.each(certain)
        rest = total - int(are_certain.sum())
        if rest <= 0:  # the certain ones alone are too many: all share the cut
            return probabilities * (total / float(keep.each(probabilities).sum()))
        factor = rest / keep.each(probabilities, ~are_certain).sum()
        reached = certain | (probabilities * factor >= 1)
        are_reached = keep.each(reached)
        if torch.equal(are_reached, are_certain) or bool(are_reached.all()):
            return (probabilities * factor).masked_fill_(certain, 1).clamp_(max=1)
        certain = reached
