"""The lab's own loop, with every option and compiled."""

from dataclasses import replace

import pytest
import torch

from helpers import run, stop_after
from helpers.digits import QUICK
from infobatch import batch_weights
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training import loop
from infobatch.lab.training.loop import WARM_UP_STEPS
from infobatch.lab.training.pauses import Interrupted


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16"},
        {"precision": "fp16", "epochs": 2},  # which processors compute slowly
        {"ema_decay": 0.9},
        {"mixup": 0.2},
        {"cutmix": 1.0},
        {"clip_norm": 1.0},
        {"norm": "group"},
        {"drop_last": True},
        {"optimizer": "lars", "lr": 20.0, "normalizer": "weights"},
        {"optimizer": "lamb", "lr": 0.02, "normalizer": "weights"},
        {"optimizer": "adamw", "lr": 0.02},
        {"policy": "proportional:by=gradient_norm", "target": 0.2},
        {"policy": "kakurenbo", "target": 0.2, "delta": 1.0},
        {"policy": "none", "backward_share": 0.4},
        {"policy": "none", "backward_share": 0.4, "proxy": "small-cnn", "model": "resnet8"},
        {"optimizer": "nesterov", "schedule": "triangle", "cutout": 2},
        {"policy": "noise-budget:max_noise=1.3"},
        {"shrink": "batches", "least_batch": 8, "batch_multiple": 4},
        {"shrink": "batches", "mixup": 0.2, "drop_last": True, "normalizer": "mean"},
        {"batch_norm": "weighted", "ema_decay": 0.9},
    ],
    ids=str,
)
def test_every_option_learns_and_goes_on_bit_for_bit(data, tmp_path, options):
    config = replace(QUICK, **options)
    whole = run(config, data, tmp_path / "whole")
    assert whole.result > 20, "no better than a guess"
    with pytest.raises(Interrupted):
        run(config, data, tmp_path / "cut", should_stop=stop_after(16))
    run(config, data, tmp_path / "cut")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_the_last_short_batch_is_not_compiled(data, tmp_path, monkeypatch):
    compiled = []

    def compile_(model, **options):
        def call(images):
            compiled.append(tuple(images.shape))
            return model(images)

        return call

    monkeypatch.setattr(torch, "compile", compile_)
    summary = run(replace(QUICK, compile=True), data, tmp_path / "compiled")
    assert set(compiled) == {(128, 1, 8, 8)}
    short = sum(m.num_kept % 128 > 0 for m in RunFolder(tmp_path / "compiled").metrics())
    assert len(compiled) == summary.num_steps - short + WARM_UP_STEPS
    assert short > 0
    assert summary.result == run(QUICK, data, tmp_path / "plain").result


def test_where_batches_shrink_every_size_is_compiled(data, tmp_path, monkeypatch):
    sizes = []

    def compile_(model, dynamic, mode):
        assert (dynamic, mode) == (None, "default")

        def call(images):
            sizes.append(len(images))
            return model(images)

        return call

    monkeypatch.setattr(torch, "compile", compile_)
    config = replace(QUICK, compile=True, shrink="batches")
    summary = run(config, data, tmp_path / "compiled")
    assert len(sizes) == summary.num_steps + WARM_UP_STEPS
    assert len(set(sizes)) > 3
    assert summary.result == run(replace(config, compile=False), data, tmp_path / "plain").result


# -- Batches that shrink, and batch norm with weights ------------------------------------------------


def weights(path):
    return (path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("policy", ["infobatch", "noise-budget:max_noise=2"])
def test_batches_that_shrink_leave_steps_and_rates_as_on_full_data(data, tmp_path, policy):
    full = run(replace(QUICK, policy="none"), data, tmp_path / "full")
    pruned = run(replace(QUICK, policy=policy, shrink="batches"), data, tmp_path / "pruned")
    assert pruned.num_steps == full.num_steps
    assert pruned.num_trained < full.num_trained
    rates = [[m.lr for m in RunFolder(tmp_path / name).metrics()] for name in ("full", "pruned")]
    assert rates[0] == pytest.approx(rates[1], rel=0.02)


def test_batch_norm_with_weights_changes_pruned_epochs_alone(data, tmp_path):
    for batch_norm in ("weighted", "plain"):
        config = replace(QUICK, batch_norm=batch_norm)
        run(config, data, tmp_path / batch_norm)
        run(replace(config, delta=0.0), data, tmp_path / f"{batch_norm}-unpruned")
    told = {name: RunFolder(tmp_path / name).metrics() for name in ("weighted", "plain")}
    assert told["weighted"][0].test_loss == told["plain"][0].test_loss
    assert told["weighted"][1].num_kept == told["plain"][1].num_kept < 1400
    assert told["weighted"][1].test_loss != told["plain"][1].test_loss
    unpruned = [weights(tmp_path / f"{name}-unpruned") for name in ("weighted", "plain")]
    assert unpruned[0] == unpruned[1]


def test_batch_norm_is_given_the_weights_of_each_pruned_batch(data, tmp_path, monkeypatch):
    given = []

    def note(model, weights):
        given.append(weights)
        return batch_weights(model, weights)

    monkeypatch.setattr(loop, "batch_weights", note)
    run(replace(QUICK, policy="noise-budget:max_noise=1.3", batch_norm="weighted"), data, tmp_path)
    pruned = [m for m in RunFolder(tmp_path).metrics() if m.num_kept < m.num_samples]
    assert sum(map(len, given)) == sum(m.num_kept for m in pruned)
    assert float(torch.cat(given).mean()) == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("default::DeprecationWarning")  # of torch's own modules
def test_torch_compile_compiles_once(data, tmp_path):
    from torch._dynamo.utils import counters

    counters.clear()
    torch._dynamo.reset()
    run(replace(QUICK, compile=True), data, tmp_path / "compiled")
    assert counters["stats"]["unique_graphs"] == 1
    run(QUICK, data, tmp_path / "plain")
    first = [RunFolder(tmp_path / name).metrics()[0] for name in ("compiled", "plain")]
    losses = [metrics.train_loss for metrics in first]  # later ones are as far apart as rounding grows
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
