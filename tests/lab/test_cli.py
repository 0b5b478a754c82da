import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from infobatch import __version__
from infobatch.lab import cli
from infobatch.lab.commands import train
from infobatch.lab.runs.folder import RunFolder
from infobatch.policies import RECOMMENDED

ENVIRONMENT = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
QUICK = ["--data", "digits", "--epochs", "3", "--batch-size", "128", "--device", "cpu"]


def infobatch(*arguments):
    command = [sys.executable, "-m", "infobatch.lab.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "run"
    done = infobatch("train", *QUICK, "--out", path)
    assert done.returncode == 0, done.stderr
    return path


def test_compare_ends_with_table_verdict_and_report(tmp_path):
    done = infobatch("compare", *QUICK, "--seeds", 2, "--out", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    assert re.search(r"full data +\d\d\.\d\d ± \d\.\d\d +4,200 +33 ", done.stdout)
    assert "Verdict" in done.stdout
    assert f"The report is {tmp_path / 'c' / 'report' / 'report.html'}" in done.stdout
    again = infobatch("compare", "--out", tmp_path / "c", "--resume")
    assert again.returncode == 0, again.stderr
    assert again.stdout.split("Verdict")[1] == done.stdout.split("Verdict")[1]
    refused = infobatch("compare", *QUICK, "--out", tmp_path / "c")
    assert refused.returncode == 2
    assert "already holds a comparison" in refused.stderr


def test_help_names_every_command_and_option(call):
    _, overview, _ = call("--help")
    assert all(name in overview for name in cli.COMMANDS)
    _, options, _ = call("train", "--help")
    for option in ("data", "model", "epochs", "batch-size", "prune-ratio", "delta", "optimizer"):
        assert f"--{option}" in options
    for option in ("lr", "seed", "device", "precision", "workers", "resume", "out"):
        assert f"--{option}" in options


def test_train_leaves_a_new_folder_where_none_is_named(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, output, _ = call("train", *QUICK)
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "summary.json").exists()
    assert folder.name in output
    epochs = re.findall(r"^epoch (\d), \d+% kept, test accuracy \d+\.\d\d %$", output, re.M)
    assert epochs == ["1", "2", "3"]


def test_the_version_is_told(call):
    assert call("--version") == (0, f"infobatch {__version__}\n", "")


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


def test_report_draws_any_finished_runs(call, finished, tmp_path):
    code, output, _ = call("report", finished, "--out", tmp_path)
    assert code == 0
    assert "InfoBatch r=0.5, 3 epochs, lr 0.2" in output
    assert (tmp_path / "report.html").exists()


def test_predict_reads_a_runs_scores(call, finished):
    _, output, _ = call("predict", finished / "scores.npz", "--epochs", 100, "--prune-ratio", 0.5)
    saving = float(re.search(r"predicted saving: (\S+)% of the run", output).group(1))
    assert 15 < saving < 45


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "mnst5k"], "no data set 'mnst5k'; did you mean mnist5k"),
        (["train", "--delta", "2"], "--delta is 2.0; it must be between 0 and 1"),
        (["train", "--lr", "inf"], "--lr is inf; it must be above 0 and finite"),
        (["train", "--policy", "none", "--prune-ratio", "0.3"], "the policy none has none; leave it"),
        (["train", "--resume"], "--resume needs --out"),
        (["compare", "--data", "digits", "--batch-size", "4000"], "fewer than one batch of 4000"),
        (["train", "cifar10-resnet18"], "the recipe cifar10-resnet18 needs a GPU"),
        (["train", "cifar10-resnet-18"], "no recipe 'cifar10-resnet-18'; did you mean cifar10-resnet18"),
        (["train", "cifar10-resnet8", "--data-dir", "nowhere"], "no train*.parquet"),
        (["compare", "--policy", "none"], "give compare a policy that prunes"),
        (["train", "--data", "digits", "--target", "0.9"], "cannot be met by any policy"),
        (["train", "--data", "digits", "--target", "0.6"], "smallest prune_ratio"),
        (["train", "--data", "digits", "--save", "0.4"], "--save is 0.4; give percentages from 1 on"),
        (["train", "--data", "digits", "--save", "90"], "The highest target that can be reached is"),
        (["train", "--data", "digits", "--ramp", "1"], "no share of the samples to leave out was given"),
        (["eval", "nowhere"], "nowhere holds no run"),
        (["report", "nowhere"], "nowhere holds no run"),
        (["predict", "nowhere.npz"], "there is no file nowhere.npz"),
    ],
)
def test_bad_input_is_one_line_that_leaves_nothing_behind(
    call, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    code, _, error = call(*arguments)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_names_a_near_one(call):
    _, _, error = call("train", "--prune-ration", "0.5")
    assert "--prune-ratio" in error


def test_resuming_refuses_other_options(call, finished):
    _, _, error = call("train", "--out", finished, "--resume", "--lr", "0.3")
    assert "--lr is 0.3, but the run was started with 0.2" in error


def test_a_reader_that_has_seen_enough_gets_no_error():
    command = [sys.executable, "-m", "infobatch.lab.cli", "contest", "--help"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_interrupting_leaves_a_resumable_run(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "infobatch.lab.cli", "train", "--data", "digits"]
    command += ["--epochs", "500", "--device", "cpu", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    wait_for(out / "metrics.jsonl")
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"infobatch train --out {out} --resume" in printed
    assert (out / "checkpoint.pt").exists()
    assert not (out / "summary.json").exists()


def test_an_interrupt_before_training_is_no_traceback(call, monkeypatch, tmp_path):
    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "load", interrupted)
    code, _, error = call("train", *QUICK, "--out", tmp_path / "run")
    assert (code, error) == (130, "infobatch: stopped\n")
    assert not (tmp_path / "run").exists()


def test_to_resume_a_finished_run_says_so(call, finished):
    code, printed, error = call("train", "--out", finished, "--resume")
    assert code == 0, error
    assert "finished before" in printed


def wait_for(path: Path) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.05)


def test_a_recipe_is_trained_with_the_options_that_were_typed(call, tmp_path):
    typed = ["--data", "digits", "--epochs", "2", "--norm=group"]
    code, _, error = call("train", "mnist5k-small-cnn", *typed, "--out", tmp_path)
    assert code == 0, error
    config = RunFolder(tmp_path).config()
    assert (config.recipe, config.data, config.norm, config.epochs) == (
        "mnist5k-small-cnn",
        "digits",
        "group",
        2,
    )


def test_a_typed_default_overrides_the_recipe(call, tmp_path):
    call("train", "mnist5k-small-cnn", "--epochs", "15", "--data", "digits", "--out", tmp_path)
    assert RunFolder(tmp_path).config().epochs == 15, "15 is the default, but not the recipe's"


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


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--lr", "0.2"], None),
        (["cifar10-resnet8"], "the recipe is cifar10-resnet8, but the run was started with "),
        (["--save", "30"], "--target is 0.3, but the run was started with None"),
        (["--epochs", "15"], "--epochs is 15.0, but the run was started with 3.0"),
    ],
)
def test_only_what_differs_is_refused_in_resuming(call, finished, typed, message):
    code, _, error = call("train", *typed, "--out", finished, "--resume")
    assert code == (2 if message else 0), error
    assert (message or "") in error


def test_main_takes_its_arguments(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"infobatch {__version__}\n"


def test_what_trains_needs_no_command_line():
    program = """
        import sys

        sys.modules |= {"tyro": None, "rich": None}  # as if they were not installed
        import infobatch.lab.comparison.command
        import infobatch.lab.comparison.contest
        import infobatch.lab.comparison.run
        import infobatch.lab.comparison.sweep
        import infobatch.lab.config.policy_spec
        import infobatch.lab.report
        import infobatch.lab.training.loop
        import infobatch.lab.training.validate
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_saving_alone_is_met_by_the_recommended_policy(call, tmp_path):
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--delta", 1, "--save", 25]
    code, output, error = call("train", *options, "--out", tmp_path / "a")
    assert code == 0, error
    assert "25.0% left out" in output
    config = RunFolder(tmp_path / "a").config()
    assert (config.policy, config.target) == (RECOMMENDED, 0.25)
    call("train", *options, "--policy", "random", "--out", tmp_path / "b")
    assert RunFolder(tmp_path / "b").config().policy == "random"


def test_what_was_looked_at_is_told_as_a_cost(call, tmp_path):
    """Of four epochs of 1,400 two are pruned, by 420 each: a third of 840 is 280."""
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--save", 15]
    code, output, error = call("train", *options, "--policy", "kakurenbo", "--out", tmp_path / "a")
    assert code == 0, error
    assert "4,760 samples" in output
    assert "as much as training on 5,040: 10.0% saved" in " ".join(output.split())


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


def test_a_download_is_announced_before_it_starts(call, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.delenv("INFOBATCH_DATA_DIR", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    code, output, error = call("train", "cifar10-resnet8")
    assert code == 2
    assert "cifar10 is downloaded (144 MB)" in output
    assert "could not be downloaded from huggingface.co/datasets/uoft-cs/cifar10" in error


def test_a_sweep_stops_after_the_minutes_given(tmp_path):
    done = infobatch(
        "sweep", "mnist5k-small-cnn", "--data", "digits", "--epochs", 500, "--seeds", 1,
        "--minutes", 0.05, "--out", tmp_path,
    )  # fmt: skip
    assert done.returncode == 130
    assert "To go on: the same command" in done.stdout
    assert list(tmp_path.rglob("checkpoint.pt"))
