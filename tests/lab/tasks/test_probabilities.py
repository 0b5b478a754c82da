"""Ranking and calibration, against scikit-learn and by hand."""

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from infobatch.lab.tasks.probabilities import area_under_curve, average_precision, calibration_error


@pytest.mark.parametrize("digits", [1, 8])
def test_ranking_is_scikit_learns_with_and_without_ties(digits):
    scores = torch.rand(500, dtype=torch.float64).round(decimals=digits)
    positive = torch.rand(500) < 0.2 + 0.3 * scores
    truth, guess = positive.numpy(), scores.numpy()
    assert area_under_curve(scores, positive) == pytest.approx(roc_auc_score(truth, guess))
    assert average_precision(scores, positive) == pytest.approx(average_precision_score(truth, guess))


def test_ranking_by_hand():
    scores, positive = torch.tensor([0.9, 0.8, 0.8, 0.1]), torch.tensor([True, False, True, False])
    assert area_under_curve(scores, positive) == pytest.approx((2 + 1.5) / 4)
    assert average_precision(scores, positive) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert area_under_curve(torch.zeros(4), positive) == 0.5


def test_the_calibration_error_is_the_mean_gap_of_the_bins():
    """Three in the bin of 0.8, of which two are right, and one in that of 0.6, which is right."""
    first = torch.tensor([0.79, 0.79, 0.79, 0.62])
    probabilities = torch.stack([first, 1 - first], dim=1)
    error = calibration_error(probabilities, torch.tensor([0, 0, 1, 0]))
    assert error == pytest.approx((abs(2 - 3 * 0.79) + abs(1 - 0.62)) / 4)


def test_certain_and_right_is_calibrated():
    assert calibration_error(torch.eye(3), torch.arange(3)) == 0
    assert calibration_error(torch.eye(3), torch.tensor([1, 2, 0])) == 1
