"""The commands that show recipes and finished runs."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.commands import refused_as_changed
from helpers.comparisons import COMPARED, HALF
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.config.train import TrainConfig, of_table
from infobatch.lab.runs.folder import RunFolder


def test_eval_gives_the_accuracy_of_the_run_and_of_each_class(call, finished):
    _, output, _ = call("eval", finished)
    rows = re.findall(r"^(\d) +(\d+\.\d\d) +(\d+) +(\d+\.\d) +(\d+) ", output, re.M)
    assert len(rows) == 10
    assert sum(int(row[2]) for row in rows) == 397
    assert sum(int(row[4]) for row in rows) == 1400
    left_out = [float(row[3]) for row in rows]
    assert left_out == sorted(left_out, reverse=True)
    summary = RunFolder(finished).summary()
    overall = sum(float(row[3]) * int(row[4]) for row in rows) / 1400
    assert overall == pytest.approx(100 * summary.saved, abs=0.1)
    accuracy = float(re.search(r"accuracy (\S+) %", output).group(1))
    assert accuracy == pytest.approx(RunFolder(finished).summary().result, abs=0.01)


def test_eval_refuses_data_that_have_changed(call, of_changed_data):
    folder, table, before = of_changed_data
    assert refused_as_changed(call("eval", folder)) == str(table)
    assert refused_as_changed(call("eval", folder, "--data-dir", table)) == str(table)
    assert refused_as_changed(call("eval", folder, "--data-dir", before)) is None


def test_report_draws_any_finished_runs(call, finished, tmp_path):
    code, output, _ = call("report", finished, "--out", tmp_path)
    assert code == 0
    assert "noise budget 1.1, 3 epochs, lr 0.2" in output
    assert (tmp_path / "report.html").exists()


def test_of_a_sweep_what_has_a_finished_run_is_reported_and_the_rest_named(call, finished, tmp_path):
    for name in "abc":
        Comparison(COMPARED, (HALF,), 1, None, tmp_path / name, controls=False).create()
    code, _, error = call("report", tmp_path)
    assert code == 2
    assert f"none of the runs in {tmp_path} is finished; nothing to report yet" in error
    shutil.copytree(finished, tmp_path / "b" / "full" / f"seed-{COMPARED.seed}")
    code, output, error = call("report", tmp_path)
    assert code == 0, error
    assert "No run is finished yet of a, c" in output
    assert (tmp_path / "b" / "report" / "report.html").exists()


def test_predict_reads_a_runs_scores(call, finished):
    _, output, _ = call("predict", finished / "scores.npz", "--epochs", 100, "--prune-ratio", 0.5)
    saving = float(re.search(r"predicted saving: (\S+)% of the run", output).group(1))
    assert 15 < saving < 45


def test_predict_takes_a_runs_folder(call, finished):
    of_file = call("predict", finished / "scores.npz", "--epochs", 20)
    assert call("predict", finished, "--epochs", 20) == of_file
    assert of_file[0] == 0


@pytest.mark.parametrize("typed", [["predict"], ["explore"], ["coreset", "--keep", 0.5], ["report"]])
def test_of_several_runs_one_has_to_be_named(call, finished, tmp_path, typed):
    seed = tmp_path / "full" / "seed-0"
    shutil.copytree(finished, seed)
    (tmp_path / "compare.json").write_text("{}")
    others = [finished] if typed == ["report"] else []  # of a comparison alone it reports all
    code, _, error = call(*typed, tmp_path, *others)
    assert code == 2
    assert f"{tmp_path} holds 1 runs; give one of them, such as {seed}" in error


def test_predict_tells_what_budgets_of_noise_would_save(call, finished, tmp_path):
    plot = tmp_path / "budgets.png"
    code, output, _ = call("predict", finished / "scores.npz", "--epochs", 20, "--plot", plot)
    assert code == 0
    rows = re.findall(r"^ +(1\.05|1\.1|1\.25|1\.5|2) +(\S+)%", output, re.M)
    shares = [float(share) for _, share in rows]
    assert len(shares) == 5
    assert shares == sorted(shares)
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("visits", "told"), [([9, 2, 5], True), ([9, 9, 8], False), ([9, 9, 0], False)])
def test_predict_says_where_scores_are_those_of_a_run_that_pruned(call, tmp_path, visits, told):
    losses = np.array([0.1, 0.5, 2.0], np.float32)
    np.savez(tmp_path / "scores.npz", last_loss=losses, visits=np.array(visits, np.int32))
    code, output, _ = call("predict", tmp_path / "scores.npz")
    assert code == 0
    assert ("left samples out" in output) == told
    assert output.index("What a budget of noise would save") < output.index("InfoBatch, prune ratio")


def test_predict_is_for_as_long_as_the_run_and_says_where_labels_hide_norms(call, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create(TrainConfig(data="digits", epochs=7, label_smoothing=0.1))
    losses = np.random.default_rng(0).exponential(size=200).astype(np.float32)
    np.savez(folder.scores_path, last_loss=losses)
    _, output, _ = call("predict", folder.path)
    assert call("predict", folder.path, "--epochs", 7)[1] == output
    assert call("predict", folder.path, "--epochs", 9)[1] != output
    told = "labels of this run were smoothed or mixed"
    assert told in output
    np.savez(folder.scores_path, last_loss=losses, gradient_norm=losses.clip(max=1))
    assert told not in call("predict", folder.path)[1]


def test_predict_takes_losses_for_what_the_runs_task_has(call, tmp_path):
    folder, losses = RunFolder(tmp_path / "run"), tmp_path / "losses.npz"
    folder.create(of_table(Path("own.csv"), "price", "regression"))
    for file in (folder.scores_path, losses):
        np.savez(file, last_loss=np.random.default_rng(0).exponential(size=200).astype(np.float32))
    _, squared, _ = call("predict", folder.path)
    assert call("predict", folder.scores_path)[1] == squared
    assert call("predict", folder.path, "--norms-from", "squared-error")[1] == squared
    _, entropies, _ = call("predict", losses)
    assert call("predict", folder.path, "--norms-from", "cross-entropy")[1] == entropies != squared
    code, _, error = call("predict", folder.path, "--norms-from", "none")
    assert code == 2
    assert "--norms-from" in error


def test_recipes_are_listed_with_what_they_need(call):
    code, output, _ = call("recipes")
    assert code == 0
    words = " ".join(output.split())
    assert "cifar10-resnet18 " in words
    assert "GPU" in words
    assert "153 GB" in words
    assert "mnist5k-small-cnn" in words


def test_a_recipe_tells_its_options_and_what_others_report(call):
    _, output, _ = call("recipes", "cifar10-resnet50-lars")
    words = " ".join(output.split())
    assert "infobatch train --data cifar10 --model resnet50 --epochs 200" in words
    assert "--optimizer lars --lr 5.2" in words
    assert "reproduction 3, InfoBatch r=0.7: 95.17 %, 50.7 % saved" in words
