"""Ranking and calibration, by hand."""

import math

import pytest
import torch

from infobatch.lab.tasks.probabilities import calibration_error, ranking


def test_ranking_by_hand():
    scores, positive = torch.tensor([0.9, 0.8, 0.8, 0.1]), torch.tensor([True, False, True, False])
    expected = (2 + 1.5) / 4, 1 / 2 + 1 / 2 * 2 / 3  # of equal scores each pair counts half
    assert ranking(scores, positive) == pytest.approx(expected)


def test_a_model_that_diverged_ranks_nothing():
    found = ranking(torch.tensor([0.5, torch.nan]), torch.tensor([True, False]))
    assert all(map(math.isnan, found))


def test_the_calibration_error_is_the_mean_gap_of_the_bins():
    """Three in the bin of 0.8, of which two are right, and one in that of 0.6, which is right."""
    first = torch.tensor([0.79, 0.79, 0.79, 0.62])
    probabilities = torch.stack([first, 1 - first], dim=1)
    error = calibration_error(probabilities, torch.tensor([0, 0, 1, 0]))
    assert error == pytest.approx((abs(2 - 3 * 0.79) + abs(1 - 0.62)) / 4)


def test_certain_and_right_is_calibrated():
    assert calibration_error(torch.eye(3), torch.arange(3)) == 0
    assert calibration_error(torch.eye(3), torch.tensor([1, 2, 0])) == 1
