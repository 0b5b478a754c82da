"""The runs of an arm, over seeds."""

import math

import pytest

from helpers.results import ran
from infobatch.lab.comparison.variants import FULL, Arm
from infobatch.lab.report.arms import ArmRuns, half_interval


def test_an_arm_tells_its_mean_and_spread_over_seeds():
    runs = {seed: ran(result, 10 + seed) for seed, result in enumerate((1.0, 2.0, 4.0))}
    arm = ArmRuns(Arm(FULL), "full data", runs)
    assert arm.result == pytest.approx(7 / 3)
    assert arm.deviation == pytest.approx(math.sqrt(7 / 3))
    assert arm.mean("cost") == 11
    # The t quantile 0.975 of 2 degrees of freedom is 4.302653.
    assert arm.half_interval == pytest.approx(4.302653 * math.sqrt(7 / 3) / math.sqrt(3), rel=1e-6)


def test_one_seed_has_no_spread():
    assert math.isnan(half_interval([1.0]))
    assert math.isnan(ArmRuns(Arm(FULL), "full data", {0: ran(1.0, 10)}).deviation)
