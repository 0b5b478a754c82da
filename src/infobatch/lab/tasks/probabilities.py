"""What predicted probabilities are worth: how they rank, and whether they are right on average."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NUM_BINS = 15
"""The bins of the calibration error: as many as in Guo et al., ICML 2017."""


def ranking(scores: Tensor, positive: Tensor) -> tuple[float, float]:
    """Compute how well scores rank positive samples before the others.

    Args:
        scores: (N,), higher for samples that are more likely positive.
        positive: Which samples are, bool (N,), at least one of them and not all.

    Returns:
        The area under the ROC curve and the average precision, both in [0, 1]; NaN where a score is NaN.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # takes its time

    if scores.isnan().any():
        return math.nan, math.nan
    truth, guess = positive.cpu().numpy(), scores.cpu().numpy()
    return float(roc_auc_score(truth, guess)), float(average_precision_score(truth, guess))


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
