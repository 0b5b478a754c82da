"""The command line: its commands, its help, and how it ends on bad input and on Ctrl-C."""

import itertools

import pytest

from helpers import launch
from helpers.commands import TYPED
from infobatch import __version__
from infobatch.lab import cli
from infobatch.lab.commands import train


def test_help_names_every_command_and_option(call):
    _, overview, _ = call("--help")
    assert all(name in overview for name in cli.COMMANDS)
    _, options, _ = call("train", "--help-all")
    for option in ("data", "model", "epochs", "batch-size", "prune-ratio", "delta", "optimizer"):
        assert f"--{option}" in options
    for option in ("lr", "seed", "device", "precision", "workers", "resume", "out", "mae.patch"):
        assert f"--{option}" in options


@pytest.mark.parametrize("command", ["train", "compare", "sweep", "contest"])
def test_help_is_of_the_options_of_every_day_and_names_where_all_are(call, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    code, brief, _ = call(command, "--help")
    assert code == 0
    assert f"`infobatch {command} --help-all` lists all options." in brief
    for option in ("data", "model", "epochs", "batch-size", "lr", "seed", "device", "out"):
        assert f"--{option} " in brief
    assert "--mae.patch" not in brief
    assert "--weight-decay" not in brief
    assert "None" not in brief
    assert len(brief.splitlines()) < 90
    assert call(command, "-h")[1] == brief
    assert len(call(command, "--help-all")[1].splitlines()) > 300


def test_a_command_with_few_options_has_one_help(call):
    assert call("recipes", "--help-all") == call("recipes", "--help")


def test_the_words_of_an_option_are_one_paragraph(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, options, _ = call("compare", "--help-all")
    for words in (
        "a table of yours, as FILE.csv:COLUMN, or a training function",
        "mae (a masked autoencoder that",
    ):
        assert words in " ".join(options.replace("│", " ").split())
    lines = [line.strip("│ ") for line in options.splitlines()]
    start = next(i for i, line in enumerate(lines) if "What is learned:" in line)
    words = lines[start + 1 : start + 6]
    full = max(map(len, words))
    for line, following in itertools.pairwise(words):
        assert len(f"{line} {following.split()[0]}") > full, f"the next word would fit: {line}"


def test_the_version_is_told(call):
    assert call("--version") == (0, f"infobatch {__version__}\n", "")


def test_main_takes_its_arguments(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"infobatch {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "mnst5k"], "no data set 'mnst5k'; did you mean mnist5k"),
        (["compare", "--data", "x.csv:label"], "named without --data: infobatch compare x.csv:label"),
        (["train", "--data", "x.csv"], "named without --data: infobatch compare x.csv:COLUMN"),
        (["train", "--delta", "2"], "--delta is 2.0; it must be between 0 and 1"),
        (["train", "--lr", "inf"], "--lr is inf; it must be above 0 and finite"),
        (["train", "--policy", "none", "--prune-ratio", "0.3"], "the policy none has none; leave it"),
        (["train", *["--save", "30", "--prune-ratio", "0.5"]], "but --save 30 says how much spaced"),
        (["train", "--resume"], "--resume needs --out"),
        (["compare", "--data", "digits", "--batch-size", "4000"], "fewer than one batch of 4000"),
        (["train", "cifar10-resnet18"], "the recipe cifar10-resnet18 needs a GPU"),
        (["train", "cifar10-resnet-18"], "no recipe 'cifar10-resnet-18'; did you mean cifar10-resnet18"),
        (["train", "cifar10-resnet8", "--data-dir", "nowhere"], "no train*.parquet"),
        (["compare", "--policy", "none"], "give compare one that prunes"),
        (["train", "--data", "digits", "--target", "0.95"], "cannot be met by any policy"),
        (
            ["train", *["--data", "digits", "--target", "0.6", "--prune-ratio", "0.5"]],
            "smallest prune_ratio",
        ),
        (["train", "--data", "digits", "--save", "0.4"], "--save is 0.4; give percentages from 1 on"),
        (["train", "--data", "digits", "--save", "95"], "The highest target that can be reached is"),
        (["train", "--data", "digits", "--ramp", "1"], "no share of the samples to leave out was given"),
        (["eval", "nowhere"], "nowhere holds no run"),
        (["report", "nowhere"], "nowhere holds no run"),
        (["predict", "nowhere.npz"], "there is no file nowhere.npz"),
        (["comapre", "x.csv:label"], "there is no command 'comapre'; did you mean compare"),
        (
            ["compare", "--tabular.leave-out", "age", "x.csv:label"],
            "--tabular.leave-out took x.csv:label for a column; type the table before the options",
        ),
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


def test_a_reader_that_has_seen_enough_gets_no_error(tmp_path):
    program = """
        import os
        import sys

        import torch
        from infobatch.lab import cli

        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, sys.stdout.fileno())
        try:
            cli.main(["contest", "--help"])
        except SystemExit as stopped:
            torch.save(stopped.code, f"{sys.argv[3]}/0.pt")
    """
    assert launch(program, 1, tmp_path) == [1]
    assert (tmp_path / "0.err").read_text() == ""


def test_an_interrupt_before_training_is_no_traceback(call, monkeypatch, tmp_path):
    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "load", interrupted)
    code, _, error = call("train", *TYPED, "--out", tmp_path / "run")
    assert (code, error) == (130, "infobatch: stopped\n")
    assert not (tmp_path / "run").exists()


def test_what_trains_needs_no_command_line(tmp_path):
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
        import torch

        torch.save("imported", f"{sys.argv[3]}/0.pt")
    """
    assert launch(program, 1, tmp_path) == ["imported"]


def test_a_warning_is_told_once_of_all_runs(tmp_path):
    script = """
import warnings

import torch

def train(run):
    assert run.lr > 0
    warnings.warn("something of mine")
    pruner = run.pruner(range(64))
    loader = pruner.loader(run.batch_size)
    for _ in pruner.epochs():
        for indices, values in loader:
            pruner.update(values / 64, indices)
    return 90 + run.seed
"""
    (tmp_path / "noisy.py").write_text(script)
    program = f"""
        import contextlib
        import io
        import sys

        import torch
        from infobatch.lab.cli import main

        said = io.StringIO()
        typed = "compare {tmp_path}/noisy.py:train --out {tmp_path}/run"
        typed += " --epochs 3 --batch-size 8 --lr 0.1 --seeds 2"
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            main(typed.split())
        torch.save(said.getvalue(), f"{{sys.argv[3]}}/0.pt")
    """
    (said,) = launch(program, 1, tmp_path)
    assert said == "infobatch: warning: something of mine\n"


@pytest.mark.parametrize("package", ["jinja2", "filelock", "PIL", "matplotlib"])
def test_a_package_that_is_missing_is_named_before_training(package, tmp_path):
    program = f"""
        import contextlib
        import io
        import sys

        import torch

        sys.modules |= {{"{package}": None}}  # as if it were not installed
        said = io.StringIO()
        try:
            from infobatch.lab.cli import main

            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                main("compare --data digits --epochs 3 --seeds 2 --out {tmp_path}/run".split())
        except SystemExit as stop:
            torch.save(f"{{said.getvalue()}}{{stop}}", f"{{sys.argv[3]}}/0.pt")
    """
    (said,) = launch(program, 1, tmp_path)
    assert f"needs {package}: pip install 'infobatch[lab]'" in said
    assert not (tmp_path / "run").exists()
