"""The lab's own loop, with every option and compiled."""

from dataclasses import replace

import pytest
import torch

from helpers import run, stop_after
from helpers.digits import QUICK
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.loop import WARM_UP_STEPS
from infobatch.lab.training.pauses import Interrupted


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16"},
        {"precision": "fp16"},
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


@pytest.mark.slow
@pytest.mark.filterwarnings("default::DeprecationWarning")  # of torch's own modules
def test_torch_compile_compiles_once(data, tmp_path):
    from torch._dynamo.utils import counters

    counters.clear()
    torch._dynamo.reset()
    config = replace(QUICK, compile=True)
    compiled = run(config, data, tmp_path / "compiled")
    assert counters["stats"]["unique_graphs"] == 1
    plain = run(QUICK, data, tmp_path / "plain")
    assert compiled.test_loss == pytest.approx(plain.test_loss, rel=0.05)
