"""Forward passes alone: over all samples before the first epoch, or over what an epoch left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import run, stop_after, without_times
from helpers.digits import LOOKING, QUICK
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.classification import Classification
from infobatch.lab.training.pauses import Interrupted


def test_a_look_prunes_the_first_epoch_by_the_losses_of_the_initial_weights(data, tmp_path):
    summary = run(replace(LOOKING, epochs=1, delta=1.0, lr=1e-9), data, tmp_path)
    task = Classification(LOOKING, data)
    task.begin(0)
    indices = np.arange(1400)
    losses = task.eval_outputs(task.inputs(torch.from_numpy(indices), indices)).losses.numpy()
    weights = RunFolder(tmp_path).scores()["weight"].numpy()
    above = losses >= losses.mean() * (1 + 1e-5)
    below = losses < losses.mean() * (1 - 1e-5)
    assert (weights[above] == 1).all()
    assert (weights[below] == 0).mean() == pytest.approx(0.5, abs=0.01)
    assert summary.num_forward == 1400
    assert summary.cost == pytest.approx(summary.num_trained + 1400 / 3)


@pytest.mark.parametrize("stop", [1, 12, 15, 24])
def test_an_interrupted_run_goes_on_bit_for_bit(data, tmp_path, stop):
    """The first 11 questions are asked between forward passes, which a resumed run repeats."""
    whole = run(LOOKING, data, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(LOOKING, data, tmp_path / "cut", should_stop=stop_after(stop))
    assert (tmp_path / "cut" / "checkpoint.pt").exists() == (stop > 11)
    assert run(LOOKING, data, tmp_path / "cut").result == whole.result
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("stop", [19, 20, 27])
@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_left_out_is_looked_at_in_a_resumed_run_too(data, tmp_path, stop, workers):
    """Epoch 1 ends with step 11 + 8, and is looked at after it."""
    config = replace(QUICK, epochs=6, policy="ies", target=0.2, workers=workers)
    whole = run(replace(config, workers=0), data, tmp_path / "whole")
    assert whole.num_forward == 1680  # 0.2 x 6 x 1400
    with pytest.raises(Interrupted):
        run(config, data, tmp_path / "cut", should_stop=stop_after(stop))
    run(config, data, tmp_path / "cut")
    assert without_times(tmp_path / "cut") == without_times(tmp_path / "whole")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_a_look_gives_the_losses_of_the_model_in_evaluation_mode(data, tmp_path):
    config = replace(QUICK, policy="kakurenbo", target=0.2, delta=1.0)
    summary = run(config, data, tmp_path)
    with np.load(tmp_path / "scores.npz") as scores:
        left_out = np.flatnonzero(scores["weight"] == 0)
        last, confidences = scores["last_loss"][left_out], scores["confidence"][left_out]
        assert scores["visits"].sum() == summary.num_trained
    assert len(left_out) == RunFolder(tmp_path).metrics()[-1].num_forward > 0
    task = Classification(config, data)
    RunFolder(tmp_path).load_model(task.model)
    task.begin(3)
    outputs = task.eval_outputs(task.inputs(torch.from_numpy(left_out), left_out), ["confidences"])
    assert task.model.training
    assert last == pytest.approx(outputs.losses.numpy(), rel=1e-3, abs=1e-5)
    assert confidences == pytest.approx(outputs.signals["confidences"].numpy(), rel=1e-3, abs=1e-5)
