"""Signals of recorded epochs, against samples worked out by hand and sums over all epochs at once."""

import numpy as np
import pytest

from helpers.dynamics import epoch_of
from infobatch.dynamics import SIGNALS, EpochRecord
from infobatch.dynamics.signals import signals_of


def of_margins(*epochs):
    """Signals of samples with these margins in each epoch, by index."""
    return signals_of([epoch_of(e, margins, margins) for e, margins in enumerate(epochs)], 5)


def test_losses_count_when_a_sample_was_trained():
    signals = signals_of([epoch_of(0, {0: 4, 1: 1}), epoch_of(1, {0: 2}), epoch_of(2, {0: 0, 2: 7})], 5)
    first = {name: values[0] for name, values in signals.items()}
    assert (first["times_trained"], first["times_left_out"]) == (3, 0)
    assert (first["first_loss"], first["last_loss"], first["mean_loss"]) == (4, 0, 2)
    assert first["std_loss"] == pytest.approx(np.std([4, 2, 0]))
    probabilities = np.exp([-4, -2, 0])
    assert first["confidence"] == pytest.approx(probabilities.mean())
    assert first["variability"] == pytest.approx(probabilities.std())
    assert signals["times_trained"].tolist() == [3, 1, 1, 0, 0]
    assert signals["times_left_out"].tolist() == [0, 2, 2, 3, 3]
    assert signals["std_loss"].tolist()[1] == 0
    assert np.isnan(signals["last_loss"][3])


def test_what_was_not_recorded_has_no_column():
    assert list(of_margins({0: 1.0})) == list(SIGNALS)
    lacking = set(SIGNALS) - set(signals_of([epoch_of(0, {0: 1.0})], 5))
    assert lacking == {"correctness", "forgetting", "learned_epoch", "aum"}


def test_a_signal_that_is_not_there_says_why():
    signals = signals_of([epoch_of(0, {0: 4, 1: 1})], 2)
    with pytest.raises(KeyError, match="'aum' needs margins, and none were recorded: give update"):
        signals["aum"]
    with pytest.raises(KeyError, match="no signal 'loss'; there are index, times_trained"):
        signals["loss"]


def test_right_and_wrong_come_from_margins():
    signals = of_margins(
        {0: 1, 1: -1, 2: 1, 3: 1}, {0: 2, 1: -2, 2: -1, 3: 1}, {0: 3, 2: 2, 3: -1}, {0: 2, 2: 2, 3: -1}
    )
    assert signals["forgetting"].tolist() == [0, 0, 1, 1, 0]
    assert signals["learned_epoch"].tolist() == [0, -1, 2, -1, -1]
    assert signals["correctness"].tolist()[:4] == [1, 0, 0.75, 0.5]
    assert signals["aum"].tolist()[:4] == [2, -1.5, 1, 0]
    assert np.isnan(signals["aum"][4])


def test_a_loss_that_was_not_finite_counts_as_trained_alone():
    signals = signals_of([epoch_of(0, {0: np.nan}), epoch_of(1, {0: 3.0})], 5)
    assert signals["times_trained"][0] == 2
    assert (signals["first_loss"][0], signals["mean_loss"][0], signals["std_loss"][0]) == (3, 3, 0)


@pytest.mark.filterwarnings("error")
def test_losses_below_0_are_of_no_probability():
    signals = signals_of([epoch_of(0, {0: 4, 1: 1}), epoch_of(1, {0: -3, 1: -120})], 2)
    assert np.isnan([*signals["confidence"], *signals["variability"]]).all()
    assert signals["mean_loss"].tolist() == [0.5, -59.5]
    rounded = signals_of([epoch_of(0, {0: -1e-6, 1: 1})], 2)
    assert rounded["confidence"] == pytest.approx([1, np.exp(-1)])


def test_recorded_confidences_are_taken_as_they_are():
    values = np.array([0.25], np.float32)
    record = EpochRecord(0, 5, 0, np.array([2]), values, None, values)
    assert signals_of([record], 5)["confidence"][2] == 0.25


def test_gaps_are_passed_over():
    generator, num_samples, num_epochs = np.random.default_rng(0), 200, 12
    values = generator.normal(size=(num_epochs, num_samples)).astype(np.float32)
    trained = generator.random((num_epochs, num_samples)) < 0.6
    records = [
        EpochRecord(e, num_samples, 0, np.flatnonzero(rows), values[e, rows] ** 2, values[e, rows])
        for e, rows in enumerate(trained)
    ]
    signals = signals_of(records, num_samples)
    for i in range(num_samples):
        own = values[trained[:, i], i].astype(np.float64)
        right = own > 0
        assert signals["std_loss"][i] == pytest.approx(np.std(np.float32(own) ** 2), rel=1e-4, abs=1e-6)
        assert signals["aum"][i] == pytest.approx(own.mean(), abs=1e-6)
        assert signals["forgetting"][i] == np.count_nonzero(right[:-1] & ~right[1:])
