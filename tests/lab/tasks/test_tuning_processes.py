"""Instruction tuning in two processes."""

import json

import numpy as np
import pytest

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytest.importorskip("tyro")

from safetensors.numpy import load_file

from helpers.commands import on_ranks
from infobatch.lab import cli

pytestmark = [pytest.mark.integrations, pytest.mark.slow]

OPTIONS = [
    *("--task", "tuning", "--data", "instructions", "--model", "llama-tiny", "--epochs", "3.5"),
    *("--batch-size", "8", "--optimizer", "sgd", "--lr", "0.1", "--label-smoothing", "0"),
    *("--device", "cpu", "--prior-scores", "pass", "--warmup-epochs", "0"),
    *("--tuning.num-generated", "3"),
]


def test_two_processes_train_what_one_trains(tmp_path):
    rows = [
        {"instruction": f"Add {i % 7} and {i % 5}.", "output": str(i % 7 + i % 5)} for i in range(37)
    ]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    (tmp_path / "test.json").write_text(json.dumps(rows[::5]))
    command = ["train", *OPTIONS, "--policy", "infobatch", "--data-dir", str(tmp_path), "--out"]
    cli.main([*command, str(tmp_path / "1")])
    said = on_ranks([[*command, tmp_path / "2"]], 2, tmp_path)
    assert [code for ((code, _),) in said] == [0, 0], said
    assert sum(words.count("The run is in") for ((_, words),) in said) == 1
    scores = [np.load(tmp_path / name / "scores.npz") for name in ("1", "2")]
    assert np.array_equal(scores[0]["visits"], scores[1]["visits"])
    assert np.array_equal(scores[0]["weight"], scores[1]["weight"])
    np.testing.assert_allclose(scores[0]["last_loss"], scores[1]["last_loss"], rtol=1e-4)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("1", "2")]
    assert max(abs(weights[0][name] - weights[1][name]).max() for name in weights[0]) < 2e-6
    results = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("1", "2")]
    assert results[0]["result"] == pytest.approx(results[1]["result"], rel=1e-5)
    assert results[0]["details"] == results[1]["details"]
