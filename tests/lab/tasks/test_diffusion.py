"""Diffusion: what it trains, remembers, evaluates and refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from helpers import run, stop_after
from helpers.diffusion import OPTIONS, QUICK, Means, few_digits, with_options
from infobatch.lab.config.task_options import DiffusionOptions
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data.noising import Draws
from infobatch.lab.recipes import RECIPES, find_recipe
from infobatch.lab.tasks.diffusion import Diffusion
from infobatch.lab.training.pauses import Interrupted
from infobatch.lab.training.validate import check_config, check_run

pytest.importorskip("diffusers")


pytestmark = pytest.mark.usefixtures("tiny_unets")

TYPED = [
    *("--task", "diffusion", "--data", "digits", "--model", "unet-tiny", "--device", "cpu"),
    *("--train-samples", 48, "--held-out", 0.03, "--batch-size", 16, "--optimizer", "adamw"),
    *("--diffusion.timesteps", 50, "--diffusion.sampling-steps", 2),
]


@pytest.fixture(scope="module")
def data():
    return few_digits()


@pytest.fixture
def task(data):
    task = Diffusion(QUICK, data)
    task.begin(0)
    return task


def test_the_mean_of_the_losses_is_that_of_the_batch(task):
    indices = np.arange(16)
    inputs = task.inputs(torch.arange(16), indices)
    outputs = task.train_outputs(inputs)
    predicted = task.model(inputs[0], inputs[2]).sample
    expected = F.mse_loss(predicted, inputs[1])
    torch.testing.assert_close(outputs.losses.mean(), expected, atol=1e-6, rtol=0)
    outputs.losses.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in task.model.parameters())


def test_images_are_noised_as_the_schedule_says(task, data):
    """Ho et al., equation 4, with betas from 1e-4 to 0.02."""
    noisy, noise, timesteps, labels = task.inputs(torch.arange(9), np.arange(9))
    shares = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 100), 0)[timesteps][:, None, None, None]
    images = data.train.pixels[:9] / 127.5 - 1
    torch.testing.assert_close(noisy, shares.sqrt() * images + (1 - shares).sqrt() * noise)
    assert torch.equal(labels, data.train.labels[:9])
    assert images.min() == -1
    assert images.max() == 1


def test_a_samples_noise_depends_on_seed_epoch_and_index_alone(task):
    one = task.inputs(torch.arange(16), np.arange(16))
    other = task.inputs(torch.tensor([7, 3]), np.array([7, ~3]))  # a repeat that fills a batch
    for values, again in zip(one, other, strict=True):
        assert torch.equal(values[[7, 3]], again)
    task.begin(1)
    later = task.inputs(torch.arange(16), np.arange(16))
    assert not (one[1] == later[1]).any()
    assert (one[2] != later[2]).any()
    draws = [Draws.of_epoch(80, 100, seed, 0) for seed in (0, 1)]
    assert not (draws[0].seeds == draws[1].seeds).any()


def test_it_is_told_the_class_if_asked_to(data):
    task = Diffusion(with_options(class_conditional=True), data)
    task.begin(0)
    task.model.eval()
    noisy, noise, timesteps, labels = task.inputs(torch.arange(16), np.arange(16))
    losses = task.train_outputs((noisy, noise, timesteps, labels)).losses
    other = task.train_outputs((noisy, noise, timesteps, (labels + 1) % 10)).losses
    assert (losses != other).all()
    assert task.model.config.num_class_embeds == 10


def test_what_is_remembered_is_relative_to_the_timestep_or_the_loss(data):
    for scores in ("timestep", "loss"):
        task = Diffusion(with_options(scores=scores), data)
        task.begin(0)
        outputs = task.train_outputs(task.inputs(torch.arange(80), np.arange(80)))
        if scores == "loss":
            assert outputs.recorded is outputs.losses
        else:
            assert outputs.recorded.mean() == pytest.approx(1, abs=0.01)
            assert not outputs.recorded.requires_grad


@pytest.mark.parametrize(
    ("options", "stop"),
    [
        ({}, 3),
        ({}, 8),
        ({"ema_decay": 0.9, "policy": "ies", "target": 0.2, "diffusion": "dropout"}, 12),
        ({"policy": "noise-budget:max_noise=1.5"}, 8),
    ],
    ids=["first epoch", "second epoch", "dropout, average and a look at what is left out", "budget"],
)
def test_an_interrupted_run_goes_on_bit_for_bit(data, tmp_path, options, stop):
    config = replace(QUICK, **options)
    if "diffusion" in options:
        config = replace(config, diffusion=replace(OPTIONS, dropout=0.3))
    whole = run(config, data, tmp_path / "whole")
    assert 0 < whole.result < 1.5
    assert whole.saved > 0
    with pytest.raises(Interrupted):
        run(config, data, tmp_path / "cut", should_stop=stop_after(stop))
    state = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)
    assert state["task"]["counts"].shape == (1, 50)
    assert state["task"]["counts"].sum() > 16
    resumed = run(config, data, tmp_path / "cut")
    assert resumed.result == whole.result
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    scores = [np.load(tmp_path / name / "scores.npz")["last_loss"] for name in ("whole", "cut")]
    assert np.array_equal(*scores)


def test_dropout_drops_and_is_drawn_for_each_batch_alone(data):
    task = Diffusion(with_options(dropout=0.5), data)
    task.begin(0)
    first = task.losses(torch.arange(8), np.arange(8))
    torch.rand(3)
    assert torch.equal(task.losses(torch.arange(8), np.arange(8)), first)
    task.model.eval()
    assert (task.losses(torch.arange(8), np.arange(8)) != first).all()


def test_what_is_done_on_a_copy_leaves_no_score_behind(task):
    task.losses(torch.arange(16), np.arange(16))
    before = task.state_dict()
    with task.on_a_copy():
        task.losses(torch.arange(16), np.arange(16))
        assert not torch.equal(task.state_dict()["counts"], before["counts"])
    assert torch.equal(task.state_dict()["counts"], before["counts"])


def test_a_state_of_other_processes_is_averaged(task):
    sums = torch.arange(100.0).view(2, 50)
    task.load_state_dict({"sums": sums, "counts": torch.ones(2, 50)})
    assert torch.equal(task.state_dict()["sums"], sums.mean(0, keepdim=True))


def test_the_evaluation_is_fixed_and_tells_of_each_class(data):
    first = Diffusion(with_options(test_draws=2), data)
    second = Diffusion(replace(with_options(test_draws=2), seed=1, batch_size=7), data)
    second.model.load_state_dict(first.model.state_dict())
    ours, again = first.evaluate(), second.evaluate()
    assert ours.result == ours.loss == pytest.approx(again.result, rel=1e-6)
    assert ours.counts == data.test.labels.bincount(minlength=10).tolist()
    assert first.model.training
    mean = np.average(ours.per_class, weights=ours.counts)
    assert mean == pytest.approx(ours.result)
    assert Diffusion(with_options(test_draws=1), data).evaluate().result != ours.result


def test_images_are_generated_as_the_sampler_says(task):
    """Of a model that says all is noise, nothing is left but what was there at the start."""
    model = torch.nn.Module()
    model.forward = lambda images, timesteps, return_dict: (images,)
    draws = Draws.to_start_from(3)
    pixels = task.generate(model, draws, np.array([2, 0]))
    assert (pixels.shape, pixels.dtype) == ((2, 1, 8, 8), torch.uint8)
    left = draws.noise(np.array([2, 0]), torch.Size((1, 8, 8)))
    shares = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 100), 0)
    for step, before in ((75, 50), (50, 25), (25, 0), (0, None)):
        clean = ((left - (1 - shares[step]).sqrt() * left) / shares[step].sqrt()).clamp(-1, 1)
        share = shares[before] if before is not None else torch.tensor(1.0)
        left = share.sqrt() * clean + (1 - share).sqrt() * left
    expected = ((left.clamp(-1, 1) + 1) * 127.5).round()
    assert (pixels - expected).abs().max() <= 1


def test_the_command_line_trains_and_evaluates_it(call, scripted, tmp_path):
    out, features = tmp_path / "run", scripted(Means())
    more = ["--diffusion.features", features, "--diffusion.num-generated", 20, "--save", 25]
    code, text, error = call("train", *TYPED, "--epochs", 3, *more, "--out", out)
    assert code == 0, error
    summary = json.loads((out / "summary.json").read_text())
    assert f"denoising loss {summary['result']:.4f}" in text
    assert summary["details"]["FID"] > 0
    code, text, error = call("eval", out)
    assert code == 0, error
    assert f"denoising loss {summary['result']:.4f}" in text
    assert f"FID {summary['details']['FID']:.2f}" in text
    with Image.open(out / "samples.png") as picture:
        assert picture.size == (80, 64)


def test_the_command_line_compares_it(call, tmp_path):
    out = tmp_path / "compared"
    code, text, error = call("compare", *TYPED, "--epochs", 3, "--seeds", 1, "--out", out)
    assert code == 0, error
    assert "denoising loss (lower is better)" in " ".join(text.split())
    assert "Verdict" in text
    assert (out / "report" / "report.html").exists()


def test_a_contest_leaves_out_policies_that_do_not_fit_the_task(call, tmp_path, monkeypatch):
    recipe = find_recipe("mnist5k-ddpm")
    tiny = replace(QUICK, held_out=0.03, train_samples=48, epochs=8)
    monkeypatch.setitem(RECIPES, "tiny", replace(recipe, name="tiny", make=lambda: tiny))
    policies = "random,selective-backprop,proportional:by=gradient_norm"
    options = ["--save", 25, "--seeds", 1, "--policies", policies, "--no-controls"]
    code, text, error = call("contest", "tiny", *options, "--out", tmp_path / "contest")
    assert code == 0, error
    text = " ".join(text.split())
    assert "selective-backprop does not take part at 25 % saved: --backward-share is for --task" in text
    assert "by=gradient_norm reads gradient norms, and --task diffusion has none" in text
    assert len(list((tmp_path / "contest").rglob("summary.json"))) == 2  # full data and random


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timesteps": 1}, "--diffusion.timesteps is 1; it must be at least 2"),
        ({"dropout": 1.0}, "--diffusion.dropout is 1.0; it must be at least 0 and less than 1"),
        ({"test_draws": 0}, "--diffusion.test-draws is 0"),
        ({"num_generated": 1}, "--diffusion.num-generated is 1; it must be at least 2"),
        ({"sampling_steps": 101}, "--diffusion.sampling-steps is 101; .* at most .*timesteps, 100"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        check_config(with_options(**options))


def test_options_of_other_tasks_and_models_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no model 'small-cnn'; did you mean unet-small"):
        check_config(replace(QUICK, model="small-cnn"))
    with pytest.raises(ValueError, match=r"--diffusion\.dropout is for --task diffusion"):
        check_config(TrainConfig(diffusion=DiffusionOptions(dropout=0.1)))
    with pytest.raises(ValueError, match="--data is imagenet, which is for classification"):
        check_config(replace(QUICK, data="imagenet"))
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(ValueError, match="holds a AutoencoderKL; --task diffusion takes a UNet2DModel"):
        check_config(replace(QUICK, model=str(tmp_path)))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json cannot be read .* UNet2DModel\.save_pretrained"):
        check_config(replace(QUICK, model=str(tmp_path)))


def test_classes_are_asked_of_data_that_has_them(data, monkeypatch):
    monkeypatch.setattr(type(data), "train_labels", None)
    with pytest.raises(
        ValueError, match="class-conditional needs a class for each image, and digits has"
    ):
        check_run(with_options(class_conditional=True), data)


def test_policies_that_ask_for_what_it_cannot_tell_are_refused():
    with pytest.raises(ValueError, match="reads gradient norms, and --task diffusion has none"):
        check_config(replace(QUICK, policy="proportional:by=gradient_norm", target=0.2))
    with pytest.raises(
        ValueError, match="el2n goes by scores of a classifier of images, and --task is diffusion"
    ):
        check_config(replace(QUICK, policy="el2n", epochs=20))


def test_a_missing_package_is_named(monkeypatch, data):
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"--task diffusion needs diffusers: pip install"):
        check_run(QUICK, data)
