"""The time left of comparisons, from the runs that were trained so far."""

from dataclasses import replace

import pytest

from helpers.comparisons import COMPARED, FULL, HALF, PRUNED, RANDOM
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.run import run_comparison
from infobatch.lab.comparison.time_left import Pace, Workload
from infobatch.lab.comparison.variants import Arm, Variant
from infobatch.lab.data import load_data


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


def compared(path, num_seeds, variant=HALF):
    made = Comparison(replace(COMPARED, epochs=4), (variant,), num_seeds, 0.5, path, controls=False)
    made.save()
    return made


def train(made, data, num_runs, watch=lambda arm, seed, done: None):
    """Train some more runs of a comparison."""
    finished = []

    def noted(arm, seed, done):
        watch(arm, seed, done)
        finished.extend([arm] if done is None and len(finished) < num_runs else [])

    class Enough(Exception):
        pass

    def stop(arm, seed, done):
        noted(arm, seed, done)
        if len(finished) == num_runs:
            raise Enough

    with pytest.raises(Enough):
        run_comparison(made, data, stop, lambda: False)


def test_nobody_knows_before_something_is_done_and_then_the_pace_so_far_goes_on():
    clock = Clock()
    pace = Pace(clock)
    pace.start(10.0)  # done yesterday
    clock.now += 5
    assert pace.left(10.0, 40.0) is None
    assert pace.left(12.0, 40.0) == pytest.approx(28 * 5 / 2)
    assert pace.left(40.0, 40.0) == 0


def test_runs_count_by_what_they_cost(tmp_path, data):
    made, clock = compared(tmp_path, 2), Clock()
    work = Workload([made], clock)
    assert (work.num_runs, work.num_finished, work.share, work.left) == (4, 0, 0.0, None)
    assert work.is_at_most, "nobody knows yet what is saved"
    train(made, data, 1)
    clock.now += 30
    work.look()
    cost = made.folder(PRUNED, 3).summary().cost / 1400
    assert cost < 4
    assert work.num_finished == 1
    assert not work.is_at_most
    assert work.left == pytest.approx(30 * (4 + cost + 4) / cost), "the next pruned run costs as much"


def test_what_was_finished_before_is_not_of_the_pace(tmp_path, data):
    made, clock = compared(tmp_path, 2), Clock()
    train(made, data, 2)
    work = Workload([made], clock)
    clock.now += 7
    assert work.left is None
    work.see(made.folder(PRUNED, 4).path, 2.0)
    cost = made.folder(PRUNED, 3).summary().cost / 1400
    assert work.left == pytest.approx(7 * (cost - 2 + 4) / 2)


def test_runs_of_other_processes_count(tmp_path, data):
    made, clock = compared(tmp_path, 1), Clock()
    work = Workload([made], clock)
    train(made, data, 2)  # as another process would
    clock.now += 10
    work.see(made.folder(FULL, 3).path, 1.0)
    assert work.num_finished == 2
    assert work.left == 0


def test_a_target_is_known_beforehand(tmp_path):
    made = compared(tmp_path, 1, Variant("random", 0.5, 0.25))
    work = Workload([made], clock := Clock())
    clock.now += 8
    work.see(made.folder(FULL, 3).path, 4.0)
    assert not work.is_at_most
    assert work.left == pytest.approx(8 * 3 / 4)


def test_controls_cost_what_their_pruned_run_does(tmp_path, data):
    made = replace(compared(tmp_path, 1), controls=True)
    train(made, data, 1)
    work = Workload([made], Clock())
    cost = made.folder(PRUNED, 3).summary().cost / 1400
    assert work.share == pytest.approx(cost / (4 * cost + 4))
    assert Arm(RANDOM.kind, HALF) in made.arms
