"""What a run cost, in samples trained."""

import pytest

from infobatch.lab.runs.records import EpochMetrics, Summary


def test_a_forward_pass_alone_costs_a_third():
    epoch = EpochMetrics(0, 70, 100, 0.1, 0.1, 90.0, 1.0, 0.1, 70, [], num_forward=30)
    assert epoch.cost == pytest.approx(80)
    summary = Summary(90.0, 0.1, [], 270, 300, 30, 0.1, 0.1, 0, {}, num_forward=30, num_scoring=50)
    assert summary.cost == pytest.approx(270 + 10 + 50)
    assert summary.saved == pytest.approx(0.1), "of the samples of its epochs, whatever else it cost"
