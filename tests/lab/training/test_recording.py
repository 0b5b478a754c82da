"""Runs of the lab that record their epochs."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.lab import changed, run, stop_after
from infobatch.dynamics import read_dynamics
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import load_data
from infobatch.lab.training.pauses import Interrupted

CONFIG = TrainConfig(data="digits", epochs=4, device="cpu", record=True, label_smoothing=0.0)
RESIDENT = {"resident": True, "schedule": "triangle"}


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "dynamics").iterdir())}


@pytest.mark.parametrize("options", [{}, RESIDENT, {"policy": "kakurenbo"}], ids=str)
def test_a_run_leaves_its_epochs(data, tmp_path, options):
    config = changed(CONFIG, options)
    summary = run(config, data, tmp_path / "run")
    dynamics = read_dynamics(tmp_path / "run")
    assert dynamics.num_epochs == 4
    assert sum(len(record.index) for record in dynamics) == summary.num_trained
    signals = dynamics.signals()
    assert np.corrcoef(signals["aum"], signals["mean_loss"])[0, 1] < -0.7
    plain = run(replace(config, record=False), data, tmp_path / "plain")
    assert plain.result == summary.result
    assert not (tmp_path / "plain/dynamics").exists()


@pytest.mark.parametrize("options", [{}, RESIDENT], ids=str)
def test_an_interrupted_run_leaves_the_same(data, tmp_path, options):
    config = changed(CONFIG, options)
    run(config, data, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(config, data, tmp_path / "cut", should_stop=stop_after(17))
    run(config, data, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_run_that_begins_anew_removes_what_a_killed_one_left(data, tmp_path):
    run(CONFIG, data, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(CONFIG, data, tmp_path / "cut", should_stop=stop_after(17))
    (tmp_path / "cut/checkpoint.pt").unlink()
    run(CONFIG, data, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_smoothed_labels_have_their_confidences_recorded(data, tmp_path):
    run(replace(CONFIG, label_smoothing=0.1), data, tmp_path / "run")
    record = read_dynamics(tmp_path / "run")[3]
    assert np.abs(record.confidence - np.exp(-record.loss)).max() > 0.05
    assert ((record.confidence > 0.5) <= (record.margin > 0)).all()
