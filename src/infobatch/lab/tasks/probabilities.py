"""What predicted probabilities are worth: how they rank, and whether they are right on average."""

from __future__ import annotations

import torch
from torch import Tensor

NUM_BINS = 15
"""The bins of the calibration error: as many as in Guo et al., ICML 2017."""


def area_under_curve(scores: Tensor, positive: Tensor) -> float:
    """Compute the area under the ROC curve: how often a positive sample has a higher score than another.

    Args:
        scores: (N,), higher for samples that are more likely positive.
        positive: Which samples are, bool (N,), at least one of them and not all.

    Returns:
        The area, in [0, 1]; samples of equal score count half.
    """
    found, taken = _thresholds(scores, positive)
    missed = taken - found
    heights = (found + torch.cat([found.new_zeros(1), found[:-1]])) / 2
    widths = missed.diff(prepend=missed.new_zeros(1))
    return float((heights * widths).sum() / (found[-1] * missed[-1]))


def average_precision(scores: Tensor, positive: Tensor) -> float:
    """Compute the average precision: the mean over the positive samples of the precision at their score.

    Args:
        scores: (N,), higher for samples that are more likely positive.
        positive: Which samples are, bool (N,), at least one of them.

    Returns:
        The average, in [0, 1], without interpolation, as scikit-learn's ``average_precision_score``.
    """
    found, taken = _thresholds(scores, positive)
    recalled = found.diff(prepend=found.new_zeros(1)) / found[-1]
    return float((recalled * found / taken).sum())


def _thresholds(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """By each score from the highest on: positive samples at it or above, and all such samples."""
    order = scores.argsort(descending=True)
    values = scores[order]
    last = torch.ones_like(values, dtype=torch.bool)  # of the samples of equal score
    last[:-1] = values[1:] != values[:-1]
    found = positive[order].double().cumsum(0)[last]
    taken = (torch.arange(len(values), device=values.device) + 1)[last].double()
    return found, taken


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Compute the expected calibration error of the predicted classes.

    Args:
        probabilities: (N, C).
        labels: The true classes, int64 (N,).

    Returns:
        The mean distance, in [0, 1], between the probability and the accuracy of the predicted classes,
        over bins of equal width and weighted by the samples in them.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    confidences, classes = probabilities.double().max(1)
    bins = (confidences * NUM_BINS).ceil().long().clamp(1, NUM_BINS) - 1  # (a, b], as in the source
    gaps = (classes == labels).double() - confidences
    sums = torch.zeros(NUM_BINS, dtype=torch.float64, device=bins.device).index_add_(0, bins, gaps)
    return float(sums.abs().sum() / len(labels))
