"""Metrics of which less is better, in differences, verdicts and tables."""

import math
from types import SimpleNamespace

import pytest

from infobatch.lab.compare import FULL, Arm
from infobatch.lab.metrics import ACCURACY, Metric
from infobatch.lab.report.results import ArmRuns, Difference, Results, judge
from infobatch.lab.report.tables import main_table

LOSS = Metric("denoising loss", "", higher_is_better=False, digits=4, margin=0.001)


def test_a_metric_writes_its_figures():
    assert LOSS.heading == "denoising loss (lower is better)"
    assert LOSS.named(0.02346) == "denoising loss 0.0235"
    assert ACCURACY.heading == "accuracy %"
    assert ACCURACY.named(71.914) == "accuracy 71.91 %"


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((-0.01, 0.0005), "lossless"),
        ((-0.01, -0.005), "lossless"),
        ((0.002, 0.004), "not lossless"),
        ((0.0005, 0.004), "too few seeds to say"),
    ],
)
def test_less_of_a_loss_is_lossless(interval, words):
    assert judge(Difference(sum(interval) / 2, *interval, 5, LOSS), LOSS.margin) == words


def test_who_is_ahead_depends_on_the_metrics_direction():
    lower = Difference(-0.002, -0.003, -0.001, 5, LOSS)
    assert lower.least_gain == pytest.approx(0.001)
    assert str(lower) == "-0.0020 (-0.0030 to -0.0010)"
    assert Difference(-2.0, -3.0, -1.0, 5).most_gain == -1.0
    assert Difference(0.1, -math.inf, math.inf, 1, LOSS).least_gain == -math.inf


def test_a_table_names_the_metric_and_keeps_its_digits():
    summary = SimpleNamespace(
        result=0.12346, num_trained=10, num_full=10, num_steps=1, seconds=1.0, cost=10
    )
    arm = ArmRuns(Arm(FULL), "full data", {0: SimpleNamespace(summary=summary)})
    results = Results("UNet on digits", LOSS, [arm], arm, LOSS.margin, [])
    headings, rows = main_table(results)
    assert headings[1] == "denoising loss (lower is better)"
    assert rows[0][1] == "0.1235"
