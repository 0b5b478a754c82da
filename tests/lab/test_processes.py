"""The lab's commands under torchrun: two processes on the CPU against one."""

import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from infobatch.lab.runs.folder import RunFolder

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "100"}
COMMON = ["--data", "digits", "--batch-size", "100", "--device", "cpu", "--norm", "group"]


def infobatch(*arguments, processes=1):
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    command = [*launcher, "infobatch.lab.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("processes")
    for processes in (1, 2):
        out = path / str(processes)
        done = infobatch("train", *COMMON, "--epochs", 4.5, "--out", out, processes=processes)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("The run is in") == 1
    return path


def test_two_processes_train_what_one_trains(trained):
    one, two = (RunFolder(trained / name) for name in ("1", "2"))
    scores = [np.load(folder.scores_path) for folder in (one, two)]
    assert np.array_equal(scores[0]["visits"], scores[1]["visits"])
    assert np.array_equal(scores[0]["weight"], scores[1]["weight"])
    np.testing.assert_allclose(scores[0]["last_loss"], scores[1]["last_loss"], atol=2e-3)
    models = [load_file(folder.path / "model.safetensors") for folder in (one, two)]
    for name, weights in models[0].items():
        np.testing.assert_allclose(weights, models[1][name], atol=2e-3)


def test_two_processes_report_what_one_reports(trained):
    for ours, theirs in zip(*(RunFolder(trained / name).metrics() for name in ("1", "2")), strict=True):
        assert (ours.num_kept, ours.lr) == (theirs.num_kept, theirs.lr)
        assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-3)
        assert ours.test_loss == pytest.approx(theirs.test_loss, abs=1e-3)
        assert ours.score_quantiles == pytest.approx(theirs.score_quantiles, abs=2e-3)
    first, second = (RunFolder(trained / name).summary() for name in ("1", "2"))
    assert first.num_steps == second.num_steps
    assert first.result == pytest.approx(second.result, abs=1)


def test_two_processes_score_beforehand_as_one(tmp_path):
    scores = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        options = ["--epochs", 1, "--train-samples", 301, "--policy", "el2n", "--out", out]
        done = infobatch("train", *COMMON, *options, processes=processes)
        assert done.returncode == 0, done.stderr
        scores.append(RunFolder(out).load_static_scores()[0].numpy())
    assert (scores[0] > 0).all()
    np.testing.assert_allclose(*scores, atol=2e-3)


def test_a_comparison_runs_on_two_processes(tmp_path):
    out = tmp_path / "compared"
    done = infobatch("compare", *COMMON, "--epochs", 3, "--seeds", 1, "--out", out, processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Verdict") == 1
    assert (out / "report" / "report.html").exists()
    assert len(list(out.rglob("summary.json"))) == 5


def test_a_batch_that_does_not_divide_is_refused_once(tmp_path):
    arguments = ["train", *COMMON, "--batch-size", 101, "--out", tmp_path / "run"]
    done = infobatch(*arguments, processes=2)
    assert done.returncode != 0
    assert "--batch-size is 101, which 2 processes cannot share equally" in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_error_of_the_first_process_reaches_all(trained):
    done = infobatch("train", *COMMON, "--out", trained / "2", processes=2)
    assert done.returncode != 0
    assert "already holds a finished run" in done.stderr
