"""A static part of a training set, chosen by a signal."""

import numpy as np
import pytest

from infobatch.dynamics import SIGNALS, coreset
from infobatch.dynamics.signals import EASY_IF_HIGH

SAMPLES = {"aum": np.array([3.0, -1, 2, np.nan, 0]), "learned_epoch": np.array([0, -1, 4, 1, 2])}


@pytest.mark.parametrize(
    ("by", "prefer", "kept"),
    [
        ("aum", "hard", [1, 4]),
        ("aum", "easy", [0, 2]),
        ("learned_epoch", "hard", [1, 2]),
        ("learned_epoch", "easy", [0, 3]),
    ],
)
def test_the_hard_or_the_easy_are_kept(by, prefer, kept):
    assert coreset(SAMPLES, 0.4, by, prefer).tolist() == kept


def test_samples_that_were_never_trained_come_last():
    for prefer in ("hard", "easy"):
        assert 3 not in coreset(SAMPLES, 0.8, "aum", prefer)


@pytest.mark.parametrize("by", ["learned_epoch", "forgetting"])
@pytest.mark.parametrize("prefer", ["hard", "easy"])
def test_a_number_that_stands_for_never_trained_is_none_of_a_sample(by, prefer):
    signals = {"learned_epoch": np.array([2, 0, -1, -1]), "forgetting": np.array([1, 2, 0, 0])}
    signals["times_trained"] = np.array([3, 3, 3, 0])
    assert coreset(signals, 0.75, by, prefer).tolist() == [0, 1, 2]


@pytest.mark.parametrize("prefer", ["hard", "easy"])
def test_samples_that_were_never_learned_come_before_those_never_trained(prefer):
    signals = {"learned_epoch": np.array([0] * 10 + [-1] * 90), "times_trained": np.ones(100)}
    signals["times_trained"][50:] = 0
    assert coreset(signals, 0.5, "learned_epoch", prefer).tolist() == list(range(50))


def test_of_equal_samples_some_are_drawn():
    signals = {"forgetting": np.array([0, 5] + [1] * 998)}
    kept = coreset(signals, 0.5, "forgetting")
    assert len(kept) == 500
    assert {1} < set(kept.tolist())
    assert 200 < np.count_nonzero(kept < 500) < 300


def test_a_signal_that_tells_nothing_is_refused():
    with pytest.raises(ValueError, match="all samples have the same forgetting, which tells none"):
        coreset({"forgetting": np.zeros(4)}, 0.5, "forgetting")


def test_the_directions_are_of_signals():
    assert set(EASY_IF_HIGH) < set(SIGNALS)


def test_what_to_prefer_is_hard_or_easy():
    with pytest.raises(ValueError, match=r"prefer is 'x'; choose 'hard' or 'easy'"):
        coreset({"mean_loss": np.arange(4.0)}, 0.5, prefer="x")
