"""With --minutes no seed is begun that would not be finished in time."""

import time

import pytest

from infobatch.lab.comparison.run import SeedClock


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
    clock.finish(0)
    assert clock.has_time_for(1)


def test_a_seed_is_begun_if_the_longest_before_it_would_fit(at):
    clock = SeedClock(end=100.0)
    clock.begin(0)
    at(30.0)
    clock.finish(0)
    clock.begin(1)
    at(40.0)
    clock.finish(1)
    at(68.4)
    assert clock.has_time_for(2)
    at(68.6)
    assert not clock.has_time_for(2)


def test_a_seed_that_has_begun_goes_on(at):
    clock = SeedClock(end=100.0)
    clock.begin(0)
    at(90.0)
    clock.finish(0)
    clock.begin(1)
    assert clock.has_time_for(1)
