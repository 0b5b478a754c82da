"""A folder of recorded epochs, read."""

import numpy as np
import pytest

from helpers.dynamics import epoch_of, write_epochs
from infobatch.dynamics import read_dynamics


def two_epochs(folder):
    return write_epochs(folder, epoch_of(0, {0: 2, 1: 1, 4: 0.5}), epoch_of(2, {0: 1, 2: 4}))


def test_epochs_come_in_order(tmp_path):
    dynamics = read_dynamics(two_epochs(tmp_path))
    assert (dynamics.num_samples, dynamics.num_epochs, dynamics.epochs) == (5, 2, [0, 2])
    assert [(record.epoch, record.index.tolist()) for record in dynamics] == [
        (0, [0, 1, 4]),
        (2, [0, 2]),
    ]


def test_the_folder_of_a_run_holds_them_too(tmp_path):
    two_epochs(tmp_path / "dynamics")
    assert read_dynamics(tmp_path).folder == tmp_path / "dynamics"


def test_the_history_of_a_sample_has_the_epochs_that_trained_it(tmp_path):
    dynamics = read_dynamics(two_epochs(tmp_path))
    assert {name: values.tolist() for name, values in dynamics.history(0).items()} == {
        "epoch": [0, 2],
        "loss": [2, 1],
    }
    assert dynamics.history(3)["epoch"].tolist() == []
    with pytest.raises(IndexError, match=r"sample 5 does not exist: there are 5"):
        dynamics.history(5)
    with pytest.raises(KeyError, match=r"epoch 1 was not recorded"):
        dynamics[1]


def test_a_folder_without_epochs_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no recorded epochs .* record_to=folder.*--record"):
        read_dynamics(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no folder"):
        read_dynamics(tmp_path / "other")


@pytest.mark.parametrize(
    ("second", "what"),
    [
        (epoch_of(1, {0: 1.0}, num_samples=4), "samples 5, epoch 1 4"),
        (epoch_of(1, {0: 1.0}, seed=1), "the seed 0, epoch 1 1"),
        (epoch_of(1, {0: 1.0}, {0: 1.0}), "columns loss, epoch 1 loss, margin"),
    ],
)
def test_epochs_of_two_runs_are_refused(tmp_path, second, what):
    dynamics = read_dynamics(write_epochs(tmp_path, epoch_of(0, {0: 1.0}), second))
    with pytest.raises(ValueError, match=rf"has epochs of two runs: epoch 0 has {what}; record each"):
        dynamics.signals()


def test_a_dataset_may_have_grown(tmp_path):
    folder = write_epochs(tmp_path, epoch_of(0, {0: 1.0}), epoch_of(1, {5: 1.0}, num_samples=6))
    signals = read_dynamics(folder).signals()
    assert signals["times_left_out"].tolist() == [1, 2, 2, 2, 2, 0]
    assert np.isnan(signals["mean_loss"]).tolist() == [False, True, True, True, True, False]
