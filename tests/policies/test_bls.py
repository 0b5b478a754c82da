"""BLS prunes by the smoothed losses of a sample's batches."""

import numpy as np
import pytest

from helpers import request
from infobatch.policies import BLS
from infobatch.scores import ScoreTable


def test_bls_smooths_the_losses_of_a_samples_batches():
    table = ScoreTable(4, ["last_loss", "batch_loss", "visits"])
    table.record(np.array([0, 1]), np.array([1.0, 3.0], np.float32))
    table.record(np.array([0, 2]), np.array([4.0, 6.0], np.float32))
    expected = [0.9 * 0.2 + 0.1 * 5, 0.2, 0.5, float("nan")]
    assert table["batch_loss"].tolist() == pytest.approx(expected, nan_ok=True)
    kept = BLS(0.75).keep_probabilities(table, request())  # the mean of three is 0.46; 3 has no score
    assert kept.probabilities[kept.strata.long()].tolist() == [1, 0.25, 1, 1]
    exact = BLS(0.5).keep_probabilities(table, request(1))  # the two lowest
    assert exact.probabilities[exact.strata.long()].tolist() == [1, 0.5, 0.5, 1]
