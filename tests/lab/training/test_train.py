"""A run is trained into its folder."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import run
from helpers.digits import QUICK
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.classification import Classification
from infobatch.lab.training.train import OutOfMemory, train


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


def test_a_finished_run_is_not_trained_again(data, tmp_path):
    first = run(QUICK, data, tmp_path)
    assert train(QUICK, data, RunFolder(tmp_path)) == first


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["cuda", "cpu"],
)
@pytest.mark.parametrize(("in_half", "hint"), [(True, ", or give --precision bf16"), (False, ". What")])
def test_out_of_memory_says_what_to_lower(data, tmp_path, monkeypatch, error, in_half, hint):
    def fail(self, inputs, signals=()):
        raise error

    monkeypatch.setattr(Classification, "train_outputs", fail)
    monkeypatch.setattr("infobatch.lab.training.train.computes_in_bf16", lambda device: in_half)
    with pytest.raises(OutOfMemory, match=rf"128 on cpu; lower --batch-size \(.* it\){hint}"):
        run(QUICK, data, tmp_path)


def test_other_errors_are_not_called_out_of_memory(data, tmp_path, monkeypatch):
    def fail(self, inputs, signals=()):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Classification, "train_outputs", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        run(QUICK, data, tmp_path)
