"""Runs that the Hugging Face Trainer trains."""

from dataclasses import replace

import numpy as np
import pytest

from helpers import full_disk, stop_after, without_times
from helpers.tuning import MARKS, QUICK, run, task_of
from infobatch.dynamics import read_dynamics
from infobatch.lab.commands import loading
from infobatch.lab.runs.folder import RunFolder, saved_tensors
from infobatch.lab.tasks.tuning import Tuning
from infobatch.lab.training.pauses import Interrupted

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytest.importorskip("tyro")


pytestmark = MARKS


@pytest.fixture
def config(instructions):
    return replace(QUICK, data_dir=instructions)


def test_a_run_learns_and_leaves_its_folder(config, tmp_path):
    summary = run(config, tmp_path)
    metrics = RunFolder(tmp_path).metrics()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("config.json", "metrics.jsonl", "scores.npz"),
        *("model.safetensors", "summary.json"),
    }
    assert metrics[-1].train_loss < metrics[0].train_loss
    assert summary.result == metrics[-1].result < metrics[0].result
    assert [m.num_kept for m in metrics][::3] == [42, 42]
    assert metrics[1].num_kept < 42
    assert summary.num_steps == sum(-(-m.num_kept // 8) for m in metrics)
    assert {"exact match %", "most frequent answer %"} == set(summary.details)
    with np.load(tmp_path / "scores.npz") as scores:
        assert scores["visits"].sum() == summary.num_trained
    task = task_of(config)
    RunFolder(tmp_path).load_model(task.model)
    again = task.evaluate()
    assert again.result == summary.result
    assert again.counts == [5, 5]


def test_recorded_scores_are_the_answers_mean_losses(config, tmp_path):
    """At a rate of nearly nothing they are those of the weights the run ends with."""
    config = replace(config, lr=1e-9, policy="none", epochs=1)
    run(config, tmp_path)
    task = task_of(config)
    RunFolder(tmp_path).load_model(task.model)
    expected = task.losses(task.feed.first(42), np.arange(42)).detach().numpy()
    np.testing.assert_allclose(RunFolder(tmp_path).scores()["last_loss"], expected, rtol=1e-4)
    metrics = RunFolder(tmp_path).metrics()[0]
    counts = np.array([example.num_answer for example in task.data.train])
    assert metrics.train_loss == pytest.approx((expected * counts).sum() / counts.sum(), rel=1e-4)


def test_a_full_disk_leaves_the_older_checkpoint(config, tmp_path):
    data = loading.load(config)
    with pytest.raises(Interrupted):
        run(config, tmp_path, data, should_stop=stop_after(6))
    with full_disk(5000), pytest.raises(OSError, match=r"checkpoint-8 cannot be written \(.*make room"):
        run(config, tmp_path, data, should_stop=stop_after(2))
    with pytest.raises(Interrupted):
        run(config, tmp_path, data, should_stop=stop_after(1))
    assert run(config, tmp_path, data).num_steps == 21


@pytest.mark.parametrize("stop", [6, 8, 21])
def test_an_interrupted_run_goes_on_bit_for_bit(config, tmp_path, stop):
    data = loading.load(config)
    whole = run(config, tmp_path / "whole", data)
    assert whole.num_steps == 21
    with pytest.raises(Interrupted):
        run(config, tmp_path / "cut", data, should_stop=stop_after(stop))
    assert not (tmp_path / "cut" / "summary.json").exists()
    assert list((tmp_path / "cut" / "trainer").glob("checkpoint-*/account.pt"))
    resumed = run(config, tmp_path / "cut", data)
    assert (resumed.result, resumed.num_steps) == (whole.result, whole.num_steps)
    assert without_times(tmp_path / "cut") == without_times(tmp_path / "whole")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "cut" / "trainer").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "gpt2-tiny", "tuning": {"micro_batch": 4}, "clip_norm": 1.0},
        {"tuning": {"lora_rank": 2}, "policy": "proportional", "target": 0.2, "precision": "bf16"},
        {"prior_scores": "pass", "warmup_epochs": 0, "epochs": 2.5},
        {"policy": "noise-budget:max_noise=1.5", "tuning": {"micro_batch": 4}},
    ],
    ids=["gpt2, accumulated", "adapters", "first epoch pruned", "smaller batches, accumulated"],
)
def test_every_way_of_training_goes_on_bit_for_bit(config, tmp_path, changes):
    if "lora_rank" in changes.get("tuning", {}):
        pytest.importorskip("peft")
    changes = {**changes, "tuning": replace(config.tuning, **changes.get("tuning", {}))}
    config = replace(config, **changes)
    data = loading.load(config)
    whole = run(config, tmp_path / "whole", data)
    with pytest.raises(Interrupted):
        run(config, tmp_path / "cut", data, should_stop=stop_after(7))
    run(config, tmp_path / "cut", data)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    assert without_times(tmp_path / "cut") == without_times(tmp_path / "whole")
    task = Tuning(config, data)
    RunFolder(tmp_path / "cut").load_model(task.model)
    assert task.evaluate().result == pytest.approx(whole.result, rel=1e-3)
    if config.tuning.lora_rank:
        assert all("lora" in name for name in saved_tensors(task.model))
    if config.prior_scores:
        assert whole.num_forward == 42
        assert RunFolder(tmp_path / "cut").metrics()[0].num_kept < 42
        assert whole.cost == whole.num_trained + 14


@pytest.mark.parametrize("model", ["llama-tiny", "gpt2-tiny"])
def test_batches_that_shrink_leave_steps_as_on_full_data_and_the_loss_that_of_all(
    config, tmp_path, model
):
    """With a model that stands still all epochs have the same loss, however many samples they keep."""
    config = replace(config, policy="random", target=0.2, shrink="batches", lr=1e-12, model=model)
    summary = run(config, tmp_path)
    assert summary.num_steps == 4 * 6
    metrics = RunFolder(tmp_path).metrics()
    pruned = [m for m in metrics if m.num_kept < 42]
    assert len(pruned) == 3
    assert [m.noise for m in pruned] == [pytest.approx(42 / m.num_kept) for m in pruned]
    for m in pruned:
        assert m.train_loss == pytest.approx(metrics[0].train_loss, rel=0.05)


def test_a_damaged_checkpoint_is_passed_over(config, tmp_path):
    data = loading.load(config)
    with pytest.raises(Interrupted):
        run(config, tmp_path, data, should_stop=stop_after(3))
    half = tmp_path / "trainer" / "checkpoint-9"
    half.mkdir()
    (half / "trainer_state.json").write_text('{"glob')
    assert run(config, tmp_path, data).num_steps == 21


def test_a_recorded_run_leaves_the_same_epochs_when_it_is_interrupted(config, tmp_path):
    config = replace(config, record=True)
    summary = run(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(config, tmp_path / "cut", should_stop=stop_after(8))
    run(config, tmp_path / "cut")
    contents = [
        {path.name: path.read_bytes() for path in (tmp_path / name / "dynamics").iterdir()}
        for name in ("whole", "cut")
    ]
    assert contents[0] == contents[1]
    dynamics = read_dynamics(tmp_path / "whole")
    assert sum(len(record.index) for record in dynamics) == summary.num_trained
