"""Differences over paired seeds: intervals, p values and Holm's correction."""

import math
import statistics
from types import SimpleNamespace

import pytest
from scipy import stats

from helpers.comparisons import CONTEST
from helpers.results import LOSS
from infobatch.lab.comparison.variants import Arm
from infobatch.lab.report.arms import ArmRuns, Run
from infobatch.lab.report.paired import (
    Difference,
    holm,
    judge,
    p_of,
    p_text,
    p_value,
    seeds_needed,
)
from infobatch.lab.tasks.metrics import ACCURACY

NAN = float("nan")


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((-0.4, 0.2), "lossless"),
        ((-0.5, 0.2), "too few seeds to say"),
        ((-1.0, -0.4), "too few seeds to say"),
        ((-10.0, 9.4), "too near the margin to say"),
        ((-1.0, -0.6), "not lossless"),
        ((-math.inf, math.inf), "too few seeds to say"),
    ],
)
def test_the_verdict_follows_the_whole_interval(interval, words):
    pairs = 1 if math.isinf(interval[0]) else 5
    assert judge(Difference(-0.3, *interval, pairs), margin=0.5) == words


def test_of_few_seeds_no_spread_is_known():
    assert judge(Difference(-0.3, -10.0, 9.4, 4), margin=0.5) == "too few seeds to say"


def test_the_same_results_tell_of_others_only_in_several_seeds():
    assert judge(Difference(0.0, 0.0, 0.0, 4), margin=0.5) == "too few seeds to say"
    assert seeds_needed(Difference(0.0, 0.0, 0.0, 4), 0.5) is None
    assert judge(Difference(0.0, 0.0, 0.0, 5), margin=0.5) == "lossless"


def test_as_many_seeds_as_are_advised_would_decide():
    differences = [-0.9, 0.1, -0.2, -0.6]
    ours = {seed: FixedRun(each) for seed, each in enumerate(differences)}
    theirs = {seed: FixedRun(0.0) for seed in range(4)}
    difference = Difference.of(ours, theirs)
    assert judge(difference, 0.5) == "too few seeds to say"
    number = seeds_needed(difference, 0.5)
    spread = statistics.stdev(differences)
    for num_pairs, decides in ((number - 1, False), (number, True)):
        half = stats.t.ppf(0.975, num_pairs - 1) * spread / math.sqrt(num_pairs)
        assert (difference.mean - half > -0.5) == decides
    assert seeds_needed(difference, -difference.mean) is None, "at the margin no number would do"


class FixedRun:
    metric = ACCURACY

    def __init__(self, accuracy):
        self.summary = type("Summary", (), {"result": accuracy})


def test_the_interval_is_students_over_paired_seeds():
    ours = {seed: FixedRun(a) for seed, a in enumerate((1.0, 2.0, 4.0))}
    theirs = {seed: FixedRun(0.0) for seed in range(5)}
    difference = Difference.of(ours, theirs)
    assert difference.num_pairs == 3
    assert difference.mean == pytest.approx(7 / 3)
    half = 4.302653 * math.sqrt(7 / 3) / math.sqrt(3)  # t quantile 0.975 of 2 degrees of freedom
    assert difference.high - difference.mean == pytest.approx(half, rel=1e-6)


def test_how_large_results_are_does_not_matter():
    """Differences of ten millionths have a spread, too, and what rounding leaves has none."""
    for size in (1.0, 1e-7, 1e7):
        ours = {seed: FixedRun(size * a) for seed, a in enumerate((1.0, 2.0, 4.0))}
        theirs = {seed: FixedRun(size * 3) for seed in range(3)}
        difference = Difference.of(ours, theirs)
        half = 4.302653 * math.sqrt(7 / 3) / math.sqrt(3)
        assert difference.high - difference.mean == pytest.approx(size * half, rel=1e-6)
        assert not difference.has_no_spread
        assert p_of([size * (a - 3) for a in (1.0, 2.0, 4.0)]) == pytest.approx(p_of([-2.0, -1.0, 1.0]))
        same = {seed: FixedRun(size * 3 * (1 + seed * 1e-15)) for seed in range(3)}
        assert Difference.of(same, theirs).mean == 0
        apart = {seed: FixedRun(size * (3.1 + seed * 1e-9)) for seed in range(3)}
        assert Difference.of(apart, theirs).has_no_spread


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


def test_holms_correction_is_that_of_a_worked_example():
    # Holm (1979): 0.01 x 4, 0.013 x 3, 0.014 x 2, 0.19 x 1, never falling, at most 1.
    assert holm([0.014, 0.01, 0.19, 0.013]) == pytest.approx([0.04, 0.04, 0.19, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    corrected = holm([0.02, NAN, 0.03])
    assert [corrected[0], corrected[2]] == pytest.approx([0.04, 0.04])
    assert corrected[1] != corrected[1]
    assert holm([]) == []


def runs_with(accuracies):
    """An arm with these accuracies, one a seed."""
    runs = {s: Run(CONTEST, SimpleNamespace(result=a), (), ACCURACY) for s, a in enumerate(accuracies)}
    return ArmRuns(Arm("full"), "", runs)


def test_p_is_that_of_a_paired_t_test_and_needs_a_spread():
    rival = runs_with([90.0, 91.0, 92.0])
    # Differences 1, 2 and 3: t = 2 / (1 / sqrt(3)) with two degrees of freedom.
    assert p_value(runs_with([91.0, 93.0, 95.0]), rival) == pytest.approx(0.0742, abs=1e-4)
    assert p_value(rival, rival) == 1
    assert math.isnan(p_value(runs_with([90.7, 91.7, 92.7]), rival))
    assert math.isnan(p_value(runs_with([99.0]), rival))
    assert [p_text(p) for p in (0.27, 0.0006, 1e-7, NAN)] == ["0.270", "0.001", "<0.001", ""]
