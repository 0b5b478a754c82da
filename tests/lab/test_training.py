import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import run, stop_after, without_times
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import load_data
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.classification import Classification
from infobatch.lab.training.loop import WARM_UP_STEPS
from infobatch.lab.training.pauses import Interrupted
from infobatch.lab.training.selective_backprop import draw_by_percentile
from infobatch.lab.training.train import OutOfMemory, train
from infobatch.lab.training.validate import check_config

QUICK = TrainConfig(data="digits", epochs=4, batch_size=128, device="cpu")


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


def test_a_run_learns_and_leaves_its_folder(data, tmp_path):
    summary = run(QUICK, data, tmp_path)
    assert summary.result > 80
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "config.json",
        "metrics.jsonl",
        "scores.npz",
        "model.safetensors",
        "summary.json",
    }
    metrics = RunFolder(tmp_path).metrics()
    assert [m.epoch for m in metrics] == [0, 1, 2, 3]
    assert metrics[0].num_kept == metrics[3].num_kept == 1400
    assert metrics[1].num_kept < 1400
    assert summary.num_trained == sum(m.num_kept for m in metrics) == metrics[-1].samples_so_far
    assert summary.num_steps == sum(-(-m.num_kept // 128) for m in metrics)
    with np.load(tmp_path / "scores.npz") as scores:
        assert scores["visits"].sum() == summary.num_trained


def test_fault_19_the_result_is_that_of_the_last_epoch(data, tmp_path):
    """Elsewhere the best epoch on test data is reported, and augmentation left out counts as saved."""
    summary = run(replace(QUICK, lr=0.5), data, tmp_path)
    assert summary.result == RunFolder(tmp_path).metrics()[-1].result


def test_the_saved_model_evaluates_to_the_saved_result(data, tmp_path):
    summary = run(QUICK, data, tmp_path)
    task = Classification(QUICK, data)
    RunFolder(tmp_path).load_model(task.model)
    assert task.evaluate().result == summary.result


@pytest.mark.parametrize("stop", [1, 11, 15, 30])
def test_an_interrupted_run_goes_on_bit_for_bit(data, tmp_path, stop):
    whole = run(QUICK, data, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(QUICK, data, tmp_path / "cut", should_stop=stop_after(stop))
    assert not (tmp_path / "cut" / "summary.json").exists()
    resumed = run(QUICK, data, tmp_path / "cut")
    assert resumed.result == whole.result
    assert resumed.num_steps == whole.num_steps
    assert without_times(tmp_path / "cut") == without_times(tmp_path / "whole")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_workers_change_nothing(data, tmp_path):
    run(QUICK, data, tmp_path / "none")
    run(replace(QUICK, workers=2), data, tmp_path / "two")
    assert without_times(tmp_path / "none") == without_times(tmp_path / "two")


def test_a_finished_run_is_not_trained_again(data, tmp_path):
    first = run(QUICK, data, tmp_path)
    assert train(QUICK, data, RunFolder(tmp_path)) == first


def test_the_learning_rate_ends_where_it_would_on_full_data(data, tmp_path):
    config = replace(QUICK, epochs=6)
    run(config, data, tmp_path / "pruned")
    run(replace(config, policy="none"), data, tmp_path / "full")
    rates = {name: RunFolder(tmp_path / name).metrics()[-1].lr for name in ("pruned", "full")}
    assert rates["pruned"] == rates["full"]


def test_the_checkpoint_loads_without_pickle(data, tmp_path):
    with pytest.raises(Interrupted):
        run(QUICK, data, tmp_path, should_stop=stop_after(13))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["pruner"]["epoch"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "digit"}, "no data set 'digit'; did you mean digits"),
        ({"model": "resnet9"}, "no model 'resnet9'; did you mean"),
        ({"policy": "infobach"}, "no policy 'infobach'; did you mean infobatch"),
        ({"prune_ratio": 1.0}, "--prune-ratio is 1.0; it must be at least 0 and less than 1"),
        ({"delta": 1.5}, "--delta is 1.5; it must be between 0 and 1"),
        ({"epochs": 0}, "--epochs is 0; it must be above 0"),
        ({"batch_size": 1}, "--batch-size is 1"),
        ({"lr": 0.0}, "--lr is 0.0"),
        ({"device": "abacus"}, "--device is 'abacus'"),
        ({"optimizer": "larch"}, "no optimizer 'larch'; did you mean lars"),
        ({"stem_stride": 2}, "--stem-stride is 2, but small-cnn has no such stem"),
        ({"mixup": 0.2, "cutmix": 1.0}, "--mixup is 0.2 and --cutmix 1; give one of them"),
        ({"ema_decay": 1.0}, "--ema-decay is 1.0"),
        ({"clip_norm": -1.0}, "--clip-norm is -1.0"),
        ({"backward_share": 0.0}, "--backward-share is 0.0; it must be above 0 and at most 1"),
        ({"backward_share": 0.5}, "--backward-share is 0.5 and --policy infobatch; .* --policy none"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        check_config(replace(QUICK, **options))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_said():
    with pytest.raises(ValueError, match="finds no CUDA device"):
        check_config(replace(QUICK, device="cuda"))


def test_a_folder_that_holds_something_is_refused(data, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"already holds other files; choose another --out$"):
        RunFolder(tmp_path).create(QUICK)
    RunFolder(tmp_path / "a").create(QUICK)
    with pytest.raises(FileExistsError, match=r"already holds a run; .* or give --resume"):
        RunFolder(tmp_path / "a").create(QUICK)


def test_an_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match=r"nothing can be written to .*; choose another --out"):
        RunFolder(tmp_path / "file" / "run").create(QUICK)


def test_config_survives_json():
    config = replace(QUICK, target=(0, 5, 5, 0), policy="random")
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_arguments_name_what_differs_from_the_defaults():
    assert TrainConfig(lr=0.1, target=(1, 2)).to_arguments() == [
        "--target",
        "1",
        "2",
        "--lr",
        "0.1",
    ]


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


def test_selective_backprop_draws_by_percentile_without_replacement():
    """At u = 1/4, 2/4, 3/4, 1 and a third to be kept: chances go as u^2, so 1 : 4 : 9 : 16."""
    losses, num_draws = torch.tensor([5.0, 0.1, 7.0, 0.2]), 4000
    first, pairs = np.zeros(4), set()
    generator = torch.Generator().manual_seed(0)
    for _ in range(num_draws):
        uniform = torch.rand(4, generator=generator)
        first[draw_by_percentile(losses, 1, 1 / 3, uniform)] += 1
        pair = draw_by_percentile(losses, 2, 1 / 3, uniform).tolist()
        assert len(set(pair)) == 2
        pairs.add(frozenset(pair))
    expected = np.array([9, 1, 16, 4]) / 30
    assert (abs(first / num_draws - expected) < 5 * (expected * (1 - expected) / num_draws) ** 0.5).all()
    assert len(pairs) == 6


def test_selective_backprop_trains_its_share_in_the_epochs_that_can_be_pruned(data, tmp_path):
    config = replace(QUICK, policy="none", backward_share=0.33)
    summary = run(config, data, tmp_path)
    metrics = RunFolder(tmp_path).metrics()
    assert [m.num_kept for m in metrics] == [1400, 462, 462, 1400]
    assert [m.num_forward for m in metrics] == [0, 1400, 1400, 0]
    assert summary.num_steps == 4 * 11
    assert summary.result > 80


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


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["cuda", "cpu"],
)
def test_out_of_memory_says_what_to_lower(data, tmp_path, monkeypatch, error):
    def fail(self, inputs, signals=()):
        raise error

    monkeypatch.setattr(Classification, "train_outputs", fail)
    with pytest.raises(
        OutOfMemory, match=r"batch size 128 on cpu; lower --batch-size .* --precision bf16"
    ):
        run(QUICK, data, tmp_path)


def test_a_damaged_checkpoint_is_named(data, tmp_path):
    with pytest.raises(Interrupted):
        run(QUICK, data, tmp_path, should_stop=stop_after(13))
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"checkpoint\.pt cannot be read .* remove it to train"):
        run(QUICK, data, tmp_path)
    checkpoint.unlink()
    assert run(QUICK, data, tmp_path).result > 60


def test_options_edited_under_a_checkpoint_are_refused(data, tmp_path):
    with pytest.raises(Interrupted):
        run(QUICK, data, tmp_path, should_stop=stop_after(13))
    with pytest.raises(ValueError, match=r"was trained with --epochs \S+, but --epochs 9 is wanted"):
        run(replace(QUICK, epochs=9), data, tmp_path)


def test_what_a_kill_left_half_written_goes_with_the_end_of_the_run(data, tmp_path):
    RunFolder(tmp_path).create(QUICK)
    (tmp_path / "checkpoint.pt.123.part").write_bytes(b"half")
    run(QUICK, data, tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_other_errors_are_not_called_out_of_memory(data, tmp_path, monkeypatch):
    def fail(self, inputs, signals=()):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Classification, "train_outputs", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        run(QUICK, data, tmp_path)


@pytest.mark.parametrize("normalizer", ["batch", "mean", "weights"])
def test_the_loss_told_of_a_pruned_epoch_is_that_of_all_data(data, tmp_path, normalizer):
    """With a model that stands still all epochs have the same loss, however many samples they keep."""
    config = replace(QUICK, policy="neyman", target=0.3, normalizer=normalizer, lr=1e-12)
    run(config, data, tmp_path)
    metrics = RunFolder(tmp_path).metrics()
    assert metrics[1].num_kept < 0.5 * metrics[0].num_kept
    losses = [m.train_loss for m in metrics]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=0.02)


def test_top_5_and_class_accuracies_agree_with_the_logits(data):
    assert "top-5 %" not in Classification(QUICK, data).evaluate().details
    data = replace(data, class_names=(*data.class_names, "eleventh"))
    task = Classification(QUICK, data)
    result = task.evaluate()
    task.model.eval()
    with torch.no_grad():
        images = task.feed.normalize(data.test.pixels)
        logits = task.model(images.contiguous(memory_format=torch.channels_last))
    labels = data.test.labels
    right = logits.argmax(1) == labels
    assert result.result == pytest.approx(100 * right.float().mean().item())
    in_five = (logits.topk(5).indices == labels[:, None]).any(1)
    assert result.details["top-5 %"] == pytest.approx(100 * in_five.float().mean().item())
    assert result.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())
    assert result.counts == labels.bincount(minlength=11).tolist()
    assert result.per_class[3] == pytest.approx(100 * right[labels == 3].float().mean().item())


def test_boolean_arguments_can_be_switched_off():
    base = TrainConfig(compile=True, drop_last=False)
    assert TrainConfig(drop_last=True).to_arguments(base) == ["--drop-last", "--no-compile"]
