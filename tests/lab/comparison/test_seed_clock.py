"""With --minutes no seed is begun that would not be finished in time."""

import shutil
import time
from dataclasses import replace

import pytest

from infobatch.lab.comparison.run import SeedClock, run_comparison


@pytest.fixture
def at(monkeypatch):
    """Sets the time."""

    def set_time(seconds):
        monkeypatch.setattr(time, "monotonic", lambda: seconds)

    set_time(0.0)
    return set_time


def test_without_an_end_every_seed_is_begun():
    clock = SeedClock()
    assert clock.has_time_for(0)
    clock.begin(0)
    clock.finish(0, 0.0)
    assert clock.has_time_for(1)


def test_a_seed_is_begun_if_the_longest_before_it_would_fit(at):
    clock = SeedClock(end=100.0)
    clock.begin(0)
    at(30.0)
    clock.finish(0, 30.0)
    clock.begin(1)
    at(40.0)
    clock.finish(1, 10.0)
    at(68.4)
    assert clock.has_time_for(2)
    at(68.6)
    assert not clock.has_time_for(2)


def test_a_seed_that_has_begun_goes_on(at):
    clock = SeedClock(end=100.0)
    clock.begin(0)
    at(90.0)
    clock.finish(0, 90.0)
    clock.begin(1)
    assert clock.has_time_for(1)


@pytest.mark.parametrize(("jobs", "fits"), [(1, False), (2, True)])
def test_a_seed_that_was_trained_before_takes_what_its_runs_took(at, jobs, fits):
    clock = SeedClock(end=100.0, num_processes=jobs)
    clock.begin(0)
    at(1.0)
    clock.finish(0, 160.0)
    assert clock.has_time_for(1) == fits


def test_what_is_gone_on_with_begins_no_seed_that_would_take_too_long(comparison, data, tmp_path):
    shutil.copytree(comparison.path, tmp_path / "c")
    more = replace(comparison, num_seeds=3, path=tmp_path / "c")
    took = [more.folder(arm, seed).summary().seconds for arm in more.arms for seed in comparison.seeds]
    clock = SeedClock(time.monotonic() + sum(took) / comparison.num_seeds)
    run_comparison(more, data, lambda arm, seed, progress: None, lambda: False, clock)
    assert not any(more.folder(arm, more.seeds[-1]).exists for arm in more.arms)


def test_each_recipe_of_a_sweep_has_seeds_of_its_own(call, tmp_path, monkeypatch):
    clocks = []
    monkeypatch.setattr(
        "infobatch.lab.commands.sweep.run_comparison", lambda *given: clocks.append(given[-1])
    )
    files = [tmp_path / f"{name}.csv" for name in "ab"]
    for file in files:
        file.write_text("x,y\n" + "".join(f"{n},{n % 2}\n" for n in range(200)))
    typed = ("--epochs", 8, "--seeds", 1, "--minutes", 5, "--no-controls", "--out", tmp_path / "out")
    code, _, error = call("sweep", *(f"{file}:y" for file in files), *typed)
    assert code == 0, error
    assert len(set(clocks)) == 2
