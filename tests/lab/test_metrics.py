"""Metrics of which less is better, in differences, verdicts and tables."""

import math
from types import SimpleNamespace

import pytest

from infobatch.lab.comparison.variants import FEWER, FULL, PRUNED, Arm, Variant
from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.paired import Difference, judge
from infobatch.lab.report.plots import draw_curves, draw_overlay
from infobatch.lab.report.results import Results
from infobatch.lab.report.tables import main_table
from infobatch.lab.report.verdict import control_lines, verdict
from infobatch.lab.tasks.metrics import ACCURACY, Metric, digits_of

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


def test_a_percentage_has_two_digits_though_it_is_0():
    assert [digits_of("exact match %", value) for value in (0.0, 0.5, 26.5)] == [2, 2, 2]
    assert [digits_of("reconstruction loss", value) for value in (0.5952, 1.2)] == [4, 2]
    assert digits_of("FID", 31.25) == 2


def ran(result, cost, metrics=()):
    counts = {"num_trained": cost, "num_full": 600, "num_steps": 9, "seconds": 1.0, "cost": cost}
    summary = SimpleNamespace(result=result, **counts)
    config = SimpleNamespace(epochs=3)
    return SimpleNamespace(summary=summary, metric=LOSS, metrics=metrics, config=config)


def compared(costs_of_fewer, metrics=()):
    variant = Variant("infobatch")
    arms = [
        ArmRuns(Arm(FULL), "full data", {s: ran(0.12, 600, metrics) for s in (0, 1)}),
        ArmRuns(Arm(PRUNED, variant), "ours", {s: ran(0.13 + s / 100, 400, metrics) for s in (0, 1)}),
        ArmRuns(
            Arm(FEWER, variant),
            "fewer epochs",
            {seed: ran(0.15, cost, metrics) for seed, cost in enumerate(costs_of_fewer)},
        ),
    ]
    return Results("UNet on digits", LOSS, arms, arms[0], LOSS.margin, [])


@pytest.mark.parametrize(
    ("costs", "words"),
    [
        ([400, 402], "fewer epochs, "),
        ([408, 416], "fewer epochs (which cost 3.0% more), "),
        ([390, 398], "fewer epochs (which cost 1.5% less), "),
    ],
)
def test_a_control_that_cost_more_or_less_says_so(costs, words):
    results = compared(costs)
    assert words in verdict(results)
    assert words.replace(", ", ": ") in control_lines(results)[1]


def test_costs_are_compared_over_the_seeds_that_both_have():
    results = compared([400])
    ours = results.pruned[0]
    ours.runs[1].summary.cost = 440
    assert "fewer epochs: " in control_lines(results)[1]
    ours.runs[0].summary.cost = 320
    assert "fewer epochs (which cost 25.0% more): " in control_lines(results)[1]


def test_runs_that_are_evaluated_once_are_drawn_as_dots():
    def metrics(result):
        return SimpleNamespace(
            epoch=2, result=result, test_loss=result, train_loss=0.1, samples_so_far=600
        )

    results = compared([400, 400], [metrics(None), metrics(0.12)])
    axis = draw_overlay(results).axes[1]
    assert [len(line.get_xdata()) for line in axis.lines] == [2, 2]
    assert {line.get_marker() for line in axis.lines} == {"o"}
    axes = draw_curves(results).axes
    assert len(axes) == 4, "the test loss is the result: no panel of its own"
    assert all(line.get_marker() == "o" for axis in axes[:2] for line in axis.lines)
