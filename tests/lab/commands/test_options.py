"""From what was typed to a run's options and data."""

import json
import re

import pytest

from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.data.marks import mark_of
from infobatch.lab.report import read_runs
from infobatch.lab.runs.folder import RunFolder
from infobatch.policies import DEFAULT_FOR_TARGET


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy", "none", "--prune-ratio", "0.5"], "--prune-ratio is 0.5, but the policy none has"),
        (["--policy", "el2n", "--delta=0.875"], "--delta is 0.875, but el2n keeps the same samples"),
    ],
)
def test_a_typed_default_is_refused_where_it_has_no_effect(call, options, message):
    code, _, error = call("train", "--data", "digits", *options)
    assert code == 2
    assert message in error


def test_a_typed_policy_is_taken_with_a_saving_if_it_is_the_default(call, tmp_path):
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--save", 20]
    assert call("train", *options, "--policy", "infobatch", "--out", tmp_path)[0] == 0
    assert RunFolder(tmp_path).config().policy == "infobatch"


def test_static_scores_change_options_that_were_not_typed(call, tmp_path):
    options = ["--data", "digits", "--epochs", 2, "--device", "cpu", "--policy", "el2n"]
    code, _, error = call("train", *options, "--out", tmp_path)
    assert code == 0, error
    config = RunFolder(tmp_path).config()
    assert (config.delta, config.warmup_epochs) == (1.0, 0)


def test_a_saving_alone_is_met_by_the_recommended_policy(call, tmp_path):
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--delta", 1, "--save", 25]
    code, output, error = call("train", *options, "--out", tmp_path / "a")
    assert code == 0, error
    assert "25.0% left out" in output
    config = RunFolder(tmp_path / "a").config()
    assert (config.policy, config.target) == (DEFAULT_FOR_TARGET, 0.25)
    call("train", *options, "--policy", "random", "--out", tmp_path / "b")
    assert RunFolder(tmp_path / "b").config().policy == "random"


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ([], "noise-budget"),
        (["--prune-ratio", 0.5], "infobatch"),
        (["--target", 0.2], "spaced"),
        (["--target", 0.2, "--prune-ratio", 0.5], "infobatch"),
        (["--policy", "random", "--prune-ratio", 0.5], "random"),
    ],
)
def test_how_much_is_left_out_says_by_which_policy(call, tmp_path, options, policy):
    common = ["--data", "digits", "--train-samples", 200, "--epochs", 5, "--device", "cpu"]
    code, _, error = call("train", *common, *options, "--out", tmp_path)
    assert code == 0, error
    assert RunFolder(tmp_path).config().policy == policy


def test_a_batch_that_cannot_shrink_is_refused_in_the_commands_own_words(call, tmp_path):
    code, _, error = call("train", "--data", "digits", "--batch-size", 2, "--out", tmp_path / "run")
    assert code == 2
    assert "--batch-size is 2, and with --policy noise-budget batches shrink, to no fewer" in error
    assert "give --shrink steps" in error


def test_a_budget_alone_is_kept_by_the_policy_that_has_one(call, tmp_path):
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu"]
    code, output, error = call("train", *options, "--noise", 1.3, "--out", tmp_path)
    assert code == 0, error
    words = " ".join(output.split())
    assert re.search(r"noise 1\.\d\d in pruned epochs, 1\.\d\d at most, where 1.3 was asked for", words)
    assert RunFolder(tmp_path).config().policy == "noise-budget:max_noise=1.3"
    code, _, error = call("train", "--out", tmp_path, "--resume", "--noise", 1.3)
    assert code == 0, error
    _, _, error = call("train", "--out", tmp_path, "--resume", "--noise", 1.1)
    assert "--noise is 1.1, but the run was started with 1.3" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--noise", 1.1, "--policy", "infobatch"], "the policy infobatch has no budget of noise"),
        (["--noise", 1.1, "--save", 30], "--noise is 1.1 and --save 30, and each says how much"),
        (["--noise", 1.1, "--target", 0.3], "--noise is 1.1 and --target 0.3, and each says how much"),
        (["--save", 30, "--target", 0.5], "--save is 30 and --target 0.5, and each says how much"),
        (["--save", 30, "--policy", "noise-budget:max_noise=1.2"], "each says how much is left out"),
        (["--noise", 1], "--noise is 1; it is the noise of a step relative to one on full data"),
        (
            ["--least-batch", 8, "--prune-ratio", 0.5],
            "--least-batch is 8, but with --policy infobatch pruned epochs have",
        ),
        (
            ["--batch-multiple", 8, "--noise", 1.1, "--shrink", "steps"],
            "give --shrink batches, or leave",
        ),
        (["--noise", 1.1, "--lr-scaling", "sqrt"], "--lr-scaling is sqrt, which makes up for steps"),
    ],
)
def test_options_of_noise_and_batches_that_say_nothing_are_refused(call, tmp_path, options, message):
    code, _, error = call("train", "--data", "digits", *options, "--out", tmp_path / "run")
    assert code == 2
    assert message in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("sweep", ["--ramp", 0.5], "--ramp is 0.5, but no share of the samples to leave out was given"),
        ("sweep", ["--policies", "infobatch", "--least-batch", 8], "--least-batch is 8, but with"),
        ("contest", ["--policies", "spaced", "--batch-multiple", 8], "--batch-multiple is 8, but with"),
    ],
)
def test_options_that_no_run_has_a_use_for_are_refused(call, tmp_path, command, options, message):
    typed = ("mnist5k-small-cnn", *options, "--out", tmp_path / "runs")
    code, _, error = call(command, *typed)
    assert code == 2
    assert message in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("task", ["mae", "regression", "diffusion"])
def test_tasks_without_labels_smooth_none(call, tmp_path, task):
    typed = ("--task", task, "--label-smoothing", 0.3, "--out", tmp_path / "run")
    code, _, error = call("train", *typed)
    assert code == 2
    assert f"--label-smoothing is 0.3, and --task {task} has no labels to smooth" in error


def test_resuming_refuses_other_options(call, finished):
    _, _, error = call("train", "--out", finished, "--resume", "--lr", "0.3")
    assert "--lr is 0.3, but the run was started with 0.2" in error


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--lr", "0.2"], None),
        (
            ["cifar10-resnet8"],
            "the recipe is cifar10-resnet8, but the run was started without it; leave",
        ),
        (["--save", "30"], "--save is 30, but the run was started without it"),
        (["--epochs", "15"], "--epochs is 15.0, but the run was started with 3.0"),
    ],
)
def test_only_what_differs_is_refused_in_resuming(call, finished, typed, message):
    code, _, error = call("train", *typed, "--out", finished, "--resume")
    assert code == (2 if message else 0), error
    assert (message or "") in error


def test_a_download_is_announced_before_it_starts(call, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.delenv("INFOBATCH_DATA_DIR", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    code, output, error = call("train", "cifar10-resnet8")
    assert code == 2
    assert "cifar10 is downloaded (144 MB)" in output
    assert "could not be downloaded from huggingface.co/datasets/uoft-cs/cifar10" in error


def test_static_pruning_has_no_warm_up_and_no_annealing(call, tmp_path):
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--train-samples", 150]
    options += ["--policy", "forgetting", "--prune-ratio", 0.4, "--out", tmp_path / "run"]
    code, _, error = call("train", *options, "--delta", 0.5)
    assert code == 2
    assert "--delta is 0.5, but forgetting keeps the same samples" in error
    code, _, error = call("train", *options)
    assert code == 0, error
    assert {m.num_kept for m in RunFolder(tmp_path / "run").metrics()} == {90}


@pytest.fixture
def subset(tmp_path):
    path = tmp_path / "subset.json"
    path.write_text(json.dumps(list(range(1, 601, 2))))
    return path


def test_a_run_sees_no_sample_beyond_its_subset(call, subset, tmp_path):
    options = ["--data", "digits", "--epochs", 2, "--device", "cpu", "--subset", subset]
    code, _, error = call("train", *options, "--out", tmp_path / "run")
    assert code == 0, error
    folder = RunFolder(tmp_path / "run")
    assert folder.config().subset == subset
    assert folder.summary().num_full == 2 * 300
    assert len(folder.scores()["visits"]) == 300
    assert read_runs([tmp_path / "run"]).title.startswith("small-cnn on digits (300 samples), 2 epochs")


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "own.csv"
    rows = (
        f"{amount},{'DE' if amount % 3 else 'FR'},{amount % 2},{amount / 7}" for amount in range(200)
    )
    file.write_text("\n".join(["amount,country,fraud,price", *rows]))
    return file


def test_a_folder_of_runs_knows_which_table_they_are_of(call, table, tmp_path):
    typed = ("--epochs", 2, "--seeds", 1, "--save", 30, "--out", tmp_path / "c")
    code, _, error = call("compare", f"{table}:fraud", *typed)
    assert code == 0, error
    moved = table.with_name("moved.csv")
    config = Comparison.load(tmp_path / "c").config
    table.rename(moved)
    assert mark_of("table", moved) == config.data_mark != ""
    table.write_text(moved.read_text().replace("FR", "IT"))
    code, _, error = call("compare", "--add-seeds", 1, "--out", tmp_path / "c")
    assert code == 2
    assert f"the data in {table} have changed since the run was started; put them back" in error
    same = ("--policies", "spaced", "--save", 30, "--epochs", 2, "--seeds", 1, "--out", tmp_path / "s")
    options = ("--task", "tabular", "--data", "table", "--tabular.target", "fraud", "--held-out", 0.2)
    options += same
    code, _, error = call("contest", *options, "--data-dir", moved)
    assert code == 0, error
    config = Comparison.load(tmp_path / "s" / "moved-fraud").config
    assert (config.model, config.optimizer, config.lr) == ("mlp", "adamw", 0.003)
    (tmp_path / "s" / "moved-fraud").rename(tmp_path / "s" / "own-fraud")
    code, _, error = call("contest", *options, "--data-dir", table)
    assert code == 2
    assert f"was trained on other data than are in {table} now" in error
    table.write_text(moved.read_text())
    code, again, error = call("contest", *options, "--data-dir", table)
    assert code == 0, error
    assert "own-fraud: 5 runs, 5 of them finished" in again
    code, again, error = call("contest", f"{table}:fraud", *same)
    assert code == 0, error
    assert "own-fraud: 5 runs, 5 of them finished" in again
    repeated = (tmp_path / "s" / "own-fraud" / "report" / "report.md").read_text()
    assert f"infobatch contest {table}:fraud --epochs 2" in repeated
    code, _, error = call("contest", "script.py:train")
    assert code == 2
    assert "script.py:train is a training function, which infobatch compare takes" in error


def test_a_test_part_of_one_class_has_no_area(call, tmp_path):
    file = tmp_path / "rare.csv"
    file.write_text("\n".join(["x,y,,", *(f"{i},{int(i < 2)},," for i in range(200))]))
    typed = (f"{file}:y", "--tabular.metric", "auc", "--epochs", 1, "--out", tmp_path / "run")
    code, _, error = call("train", *typed)
    assert code == 2
    assert "all rows of the test part are of the class '0', so that there is none" in error


def test_a_table_and_its_column_are_all_that_is_typed(call, table, tmp_path):
    typed = ("train", f"{table}:fraud", "--epochs", "2", "--out", tmp_path / "run")
    code, _, error = call(*typed)
    assert code == 0, error
    config = RunFolder(tmp_path / "run").config()
    assert (config.task, config.data, config.data_dir) == ("tabular", "table", table)
    assert (config.tabular.target, config.held_out, config.model) == ("fraud", 0.2, "mlp")
    assert call(*typed, "--resume")[0] == 0
    assert read_runs([tmp_path / "run"]).title.startswith("mlp on own.csv, evaluated on 20 % held out")
    _, _, error = call("train", f"{table}:price", "--out", tmp_path / "run", "--resume")
    assert f"the recipe is {table}:price, but the run was started with {table}:fraud" in error


def test_a_run_goes_on_where_its_data_have_moved(call, table, tmp_path):
    typed = ("--out", tmp_path / "run")
    assert call("train", f"{table}:fraud", "--epochs", "1", *typed)[0] == 0
    moved = table.rename(tmp_path / "moved.csv")
    code, _, error = call("train", *typed, "--resume", "--data-dir", moved, "--device", "cpu")
    assert code == 0, error
    moved.write_text(moved.read_text().replace("0", "1"))
    _, _, error = call("train", *typed, "--resume", "--data-dir", moved)
    assert f"the data in {moved} have changed since the run was started" in error


def test_numbers_of_a_table_are_asked_for_by_their_task(call, table, tmp_path):
    typed = ("train", f"{table}:price", "--epochs", "1", "--out", tmp_path / "run")
    assert "(numbers are predicted by --task regression)" in call(*typed)[2]
    code, _, error = call(*typed, "--task", "regression")
    assert code == 0, error
    assert RunFolder(tmp_path / "run").config().task == "regression"


def test_data_of_another_task_names_it(call, tmp_path):
    _, _, error = call("train", "--data", "table", "--out", tmp_path / "run")
    assert "give --task tabular or regression, or --data of mnist5k, digits" in error
