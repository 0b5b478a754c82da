"""A classifier made of a run of masked autoencoding."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from helpers.mae import QUICK
from infobatch.lab.commands.loading import load
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.models import make_model
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.mae import MaskedAutoencoding
from infobatch.lab.training.validate import check_config, check_run

pytest.importorskip("transformers")


pytestmark = pytest.mark.usefixtures("masked_size")


@pytest.fixture(scope="module")
def data():
    return load(QUICK)


def test_the_encoders_weights_arrive_in_the_classifier(masked_run, data):
    model = make_model(str(masked_run), (1, 8, 8), 10)
    saved = load_file(masked_run / "model.safetensors")
    ours = model.encoder.state_dict()
    assert {f"vit.{name}" for name in ours} == {name for name in saved if name.startswith("vit.")}
    for name, weight in ours.items():
        assert torch.equal(weight, saved[f"vit.{name}"]), name
    task = MaskedAutoencoding(QUICK, data)
    RunFolder(masked_run).load_model(task.model)
    images = task.feed.normalize(data.test.pixels[:8])
    model.eval()
    task.model.eval()
    with torch.no_grad():
        tokens = model.encoder(images).last_hidden_state[:, 1:].mean(1)
        torch.testing.assert_close(tokens, task._encoded(task.model, images))
        torch.testing.assert_close(model(images), model.head(tokens))


def test_a_run_is_fine_tuned_and_pruned(call, masked_run, tmp_path):
    options = ["--data", "digits", "--model", masked_run, "--epochs", 4, "--batch-size", 64]
    options += ["--optimizer", "adamw", "--lr", "5e-3", "--device", "cpu", "--out", tmp_path / "run"]
    code, text, error = call("train", *options)
    assert code == 0, error
    summary = RunFolder(tmp_path / "run").summary()
    assert summary.result > 18, "no better than a guess"
    assert summary.num_trained < summary.num_full
    code, text, error = call("eval", tmp_path / "run")
    assert code == 0, error
    assert f"accuracy {summary.result:.2f} %" in text


def test_fine_tuning_needs_a_finished_run_and_its_images(masked_run, tmp_path):
    config = TrainConfig(data="digits", model=str(tmp_path / "none"), device="cpu")
    with pytest.raises(
        ValueError, match=r"config\.json cannot be read .* folder of a run of --task mae"
    ):
        check_config(config)
    RunFolder(tmp_path / "a").create(replace(config, model="small-cnn"))
    with pytest.raises(ValueError, match="is a run of --task classification; give one of --task mae"):
        check_config(replace(config, model=str(tmp_path / "a")))
    RunFolder(tmp_path / "b").create(QUICK)
    with pytest.raises(ValueError, match=r"holds no finished run \(model\.safetensors"):
        check_config(replace(config, model=str(tmp_path / "b")))
    config = replace(config, data="mnist5k", model=str(masked_run))
    check_config(config)
    with pytest.raises(ValueError, match=r"was trained on images of 8x8 pixels and 1 channels, and the"):
        check_run(config, load(config))
