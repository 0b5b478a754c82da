"""The lists are those of an example worked out by hand."""

import numpy as np
import pytest

from infobatch.lab.explorer.lists import make_lists

SIGNALS = {
    "times_trained": np.array([4, 4, 3, 1, 0]),
    "times_left_out": np.array([0, 0, 1, 3, 4]),
    "mean_loss": np.array([0.1, 2.0, 3.0, 0.2, np.nan]),
    "variability": np.array([0.0, 0.4, 0.3, 0.1, np.nan]),
}
MARGINS = {
    "correctness": np.array([1.0, 0.5, 0.0, 1.0, np.nan]),
    "aum": np.array([3.0, -0.5, -2.0, 1.0, np.nan]),
}


def lists_of(signals):
    return {each.name: each.indices.tolist() for each in make_lists(signals)}


def test_margins_tell_suspects_and_when_a_sample_was_learned():
    """Sample 4 was never trained, so that nothing is known of it but that it was left out."""
    found = lists_of({**SIGNALS, **MARGINS})
    assert found["suspects"] == [2, 1]
    assert found["never-learned"] == [2]
    assert found["learned-at-once"] == [0, 3]
    assert found["left-out"] == [4]


def test_without_margins_suspects_have_the_highest_losses():
    found = lists_of(SIGNALS)
    assert [*found] == ["suspects", "hard", "left-out"]
    assert found["suspects"] == [2]
    assert found["hard"] == [1]


def test_without_probabilities_hard_samples_are_those_of_losses_that_change():
    deviations = {"std_loss": np.array([0.0, 0.1, 0.5, 0.1, np.nan])}
    found = lists_of({**SIGNALS, **deviations, "variability": np.full(5, np.nan)})
    assert found["hard"] == [2]


def test_samples_that_vary_alike_are_as_hard_as_their_losses_say():
    """As after a single epoch, in which nothing varies."""
    losses = np.random.default_rng(0).random(100)
    signals = {"times_trained": np.ones(100, dtype=int), "times_left_out": np.zeros(100, dtype=int)}
    found = lists_of({**signals, "mean_loss": losses, "variability": np.zeros(100)})
    assert found["hard"] == np.argsort(-losses)[:5].tolist()


def test_a_list_that_would_be_empty_is_not_there():
    kept = {**SIGNALS, "times_left_out": np.zeros(5, dtype=int)}
    assert "left-out" not in lists_of(kept)


@pytest.mark.parametrize(("number", "length"), [(10, 1), (1_000, 50), (100_000, 1_000)])
def test_ranked_lists_are_short_enough_to_be_looked_through(number, length):
    values = np.random.default_rng(0).random(number)
    ones = np.ones(number, dtype=int)
    signals = {"times_trained": ones, "times_left_out": ones, "mean_loss": values, "variability": values}
    found = lists_of(signals)
    assert [len(indices) for indices in found.values()] == [length] * 3
    assert found["suspects"] == np.argsort(-values)[:length].tolist()
