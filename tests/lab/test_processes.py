"""The lab's commands on several ranks: two processes on the CPU against one."""

import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from helpers.commands import on_ranks
from infobatch.lab import cli
from infobatch.lab.runs.folder import RunFolder

COMMON = ["--data", "digits", "--batch-size", "100", "--device", "cpu", "--norm", "group"]
PAPER = ["--policy", "infobatch"]  # where batches shrink, processes round their sizes each for itself
TRAIN = ["train", *COMMON, *PAPER, "--epochs", "4.5", "--lr", "0.05", "--out"]
"""At a rate of 0.2 rounding grows until one sample more or less is kept, on some processors."""
SCORE = ["train", *COMMON, "--epochs", "1", "--train-samples", "301", "--policy", "el2n", "--out"]
BUDGET = ["train", *COMMON, "--norm", "batch", "--epochs", "5", "--noise", "1.3", "--out"]
COMPARE = ["compare", *COMMON, "--epochs", "3", "--seeds", "1", "--out"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder with what one process and two did, and what each of the two said of each command."""
    path = tmp_path_factory.mktemp("processes")
    cli.main([*TRAIN, str(path / "1")])
    cli.main([*SCORE, str(path / "scored-1")])
    commands = [[*TRAIN, path / "2"], [*SCORE, path / "scored-2"], [*COMPARE, path / "compared"]]
    commands.append([*BUDGET, path / "budget"])
    commands.append([*TRAIN, path / "2"])  # which is there by now
    return path, list(zip(*on_ranks(commands, 2, path), strict=True))


@pytest.fixture(scope="module")
def trained(ran):
    path, (said, *_) = ran
    assert [code for code, _ in said] == [0, 0]
    assert sum(words.count("The run is in") for _, words in said) == 1
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


def test_two_processes_score_beforehand_as_one(ran):
    path, (_, said, *_) = ran
    assert [code for code, _ in said] == [0, 0]
    folders = [RunFolder(path / f"scored-{processes}") for processes in (1, 2)]
    scores = [folder.load_static_scores()[0].numpy() for folder in folders]
    assert (scores[0] > 0).all()
    np.testing.assert_allclose(*scores, atol=2e-3)


def test_a_comparison_runs_on_two_processes(ran):
    path, (_, _, said, *_) = ran
    assert [code for code, _ in said] == [0, 0]
    assert sum(words.count("Verdict") for _, words in said) == 1
    assert (path / "compared" / "report" / "report.html").exists()
    assert len(list((path / "compared").rglob("summary.json"))) == 6


def test_a_budget_of_noise_is_kept_on_two_processes(ran):
    path, (*_, said, _) = ran
    assert [code for code, _ in said] == [0, 0], said
    folder = RunFolder(path / "budget")
    assert folder.summary().num_steps == 5 * 14
    assert folder.summary().saved > 0
    noises = [m.noise for m in folder.metrics()]
    assert [noise is None for noise in noises] == [True, False, False, False, True]
    assert all(1 < noise < 1.6 for noise in noises[1:-1])


def test_an_error_of_the_first_process_reaches_all(ran):
    _, (*_, said) = ran
    assert [code for code, _ in said] == [2, 2]
    assert all("already holds a finished run" in words for _, words in said)


def test_a_batch_that_does_not_divide_is_refused_once(tmp_path):
    """Started by torchrun, as the commands above might have been."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    command = [*launcher, "infobatch.lab.cli", *TRAIN, str(tmp_path / "run"), "--batch-size", "101"]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "--batch-size is 101, which 2 processes cannot share equally" in done.stderr
    assert not (tmp_path / "run").exists()
