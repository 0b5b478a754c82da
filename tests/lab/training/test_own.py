"""Runs that a function of the user's trains: what it is given, and what it must do."""

import math
import re
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from infobatch.dynamics import read_dynamics
from infobatch.lab.config.train import of_function
from infobatch.lab.data.own import OwnData
from infobatch.lab.functions import GIVEN, load_function
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.registry import check_task, metric_of
from infobatch.lab.training import own
from infobatch.lab.training.pauses import Interrupted
from infobatch.lab.training.train import train as train_run

SAMPLES, LABELS = torch.arange(64.0), torch.arange(64) % 4
SCRIPT = """
from torch.utils.data import TensorDataset
import torch

def train(run):
    torch.manual_seed(run.seed)
    pruner = run.pruner(TensorDataset(torch.arange(64.0)))
    for epoch in pruner.epochs():
        for indices, (x,) in pruner.loader(run.batch_size):
            pruner.update(x / 64, indices)
    return 90 + run.seed

other = 3
"""


def train_with(function, folder, **options):
    """Train one run by a function."""
    name = f"tests:{function.__name__}"
    GIVEN[name] = function
    config = of_function(name)
    for option, value in {"epochs": 4, "batch_size": 8, "lr": 0.1, **options}.items():
        object.__setattr__(config, option, value)
    run = RunFolder(folder)
    run.create(config)
    return train_run(config, OwnData(), run), run


def loop(run, pruner=None, size=None):
    assert run.lr > 0
    pruner = pruner or run.pruner(TensorDataset(SAMPLES), labels=LABELS)
    loader = pruner.loader(size or run.batch_size)
    for _ in pruner.epochs():
        for indices, (values,) in loader:
            pruner.update(values / 64, indices)
    return 50.0


def test_a_run_is_recorded_by_its_pruner(tmp_path):
    seen = {}

    def train(run):
        seen.update(seed=run.seed, epochs=run.epochs, size=run.batch_size, lr=run.lr)
        return torch.tensor(loop(run))

    summary, folder = train_with(train, tmp_path / "run", seed=3, lr=0.7)
    assert seen == {"seed": 3, "epochs": 4, "size": 8, "lr": 0.7}
    assert summary.result == 50.0
    assert summary.num_full == 4 * 64
    assert summary.num_trained == sum(m.num_kept for m in folder.metrics()) < 4 * 64
    assert [m.result for m in folder.metrics()] == [None, None, None, 50.0]
    assert folder.finished
    assert folder.scores_path.exists()


def test_seconds_are_those_of_its_epochs(tmp_path):
    def train(run):
        assert run.lr > 0
        time.sleep(0.3)  # as to load the data
        pruner = run.pruner(TensorDataset(SAMPLES))
        for _ in pruner.epochs():
            for indices, (values,) in pruner.loader(run.batch_size):
                pruner.update(values / 64, indices)
            time.sleep(0.3)  # as to evaluate
        return 50.0

    summary, folder = train_with(train, tmp_path / "run", epochs=2)
    assert summary.seconds == sum(m.seconds for m in folder.metrics())
    assert 0 < summary.seconds < 0.3


def test_losses_that_are_recorded_apart_count_as_well(tmp_path):
    def train(run):
        assert run.lr > 0
        pruner = run.pruner(TensorDataset(SAMPLES))
        for _ in pruner.epochs():
            for indices, (values,) in pruner.loader(run.batch_size):
                pruner.weigh(values / 64, indices)
                pruner.record(values / 64, indices)
        return 50.0

    summary, folder = train_with(train, tmp_path / "run", policy="none")
    assert summary.num_steps == 4 * 8
    assert all(m.seconds > 0 and math.isfinite(m.train_loss) for m in folder.metrics())


def test_epochs_of_two_updates_a_batch_are_counted_once(tmp_path):
    def train(run):
        assert run.lr > 0
        pruner = run.pruner(TensorDataset(SAMPLES))
        for epoch in pruner.epochs():
            for indices, (values,) in pruner.loader(run.batch_size):
                for _ in range(2):  # as for a generator and a discriminator
                    pruner.update(torch.full_like(values, epoch), indices)
        return 50.0

    summary, folder = train_with(train, tmp_path / "run", policy="none")
    assert [m.train_loss for m in folder.metrics()] == [0, 1, 2, 3]
    assert summary.seconds == sum(m.seconds for m in folder.metrics())


def test_the_machine_is_that_of_the_losses(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(own, "describe_environment", lambda device: asked.append(device) or {})

    def train(run):
        value = loop(run)
        run.made.device = torch.device("meta")  # as if the last losses had been there
        return value

    train_with(train, tmp_path / "run")
    assert asked == [torch.device("meta")]


def test_the_comparison_decides_what_is_left_out(tmp_path):
    summary, _ = train_with(loop, tmp_path / "none", policy="none")
    assert summary.num_trained == 4 * 64
    summary, _ = train_with(loop, tmp_path / "target", policy="undersampling", target=0.25)
    assert summary.num_trained == pytest.approx(3 * 64, abs=2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda run: 1.0, "made no pruner; write `pruner = run.pruner"),
        (lambda run: run.pruner(range(8)) and 1.0, "trained 0% of its run; go through"),
        (lambda run: sys.exit(), r"ends the program \(SystemExit: None\), .* let it return the metric"),
        (lambda run: loop(run) and None, "gave None; give the metric after the last epoch"),
        (lambda run: [run.pruner(range(8)), run.pruner(range(8))], "this is the second"),
        (lambda run: run.pruner(range(8), target=0.3), "target is what the comparison decides on"),
        (lambda run: loop(run, size=16), "made batches of 16, and run.batch_size is 8 in this run"),
    ],
)
def test_a_function_that_does_otherwise_is_told(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        train_with(wrong, tmp_path / "run")


@pytest.mark.parametrize("size", [4, 3])
def test_a_step_may_be_accumulated(tmp_path, size):
    assert train_with(lambda run: loop(run, size=size), tmp_path / "run")[0].result == 50


@pytest.mark.parametrize(("value", "is_told"), [(0.87, True), (2.68, True), (0.0, False), (50, False)])
def test_small_percentages_are_told_of(tmp_path, recwarn, value, is_told):
    train_with(lambda run: loop(run) and value, tmp_path / "run")
    told = [str(each.message) for each in recwarn if "--own.lower-is-better" in str(each.message)]
    assert [text.split(",")[0] for text in told] == [f"<lambda> gave {value:g}"] * is_told


def test_a_rate_that_is_written_into_the_function_is_told_of(tmp_path, recwarn):
    def train(run):
        pruner = run.pruner(TensorDataset(SAMPLES))
        for _ in pruner.epochs():
            for indices, (values,) in pruner.loader(run.batch_size):
                pruner.update(values / 64, indices)
        return 50.0

    train_with(train, tmp_path / "run")
    (told,) = [str(each.message) for each in recwarn if "run.lr" in str(each.message)]
    assert told.startswith("train did not read run.lr, so that fewer epochs at a raised rate repeat")


@pytest.mark.parametrize("labels", [["a", "b"], [0.5, 1.0], [[0, 1]], [0, None], np.array(["a", "b"])])
def test_labels_that_are_no_whole_numbers_are_told_of(labels):
    with pytest.raises(ValueError, match="labels must be whole numbers, one for each sample"):
        OwnData.of(range(2), labels)


def test_it_stops_between_two_steps(tmp_path):
    steps = []
    config = replace(of_function("tests:stopped"), epochs=4, batch_size=8, lr=0.1)
    GIVEN["tests:stopped"] = loop
    folder = RunFolder(tmp_path / "run")
    folder.create(config)
    with pytest.raises(Interrupted):
        train_run(config, OwnData(), folder, should_stop=lambda: steps.append(1) or len(steps) == 5)
    assert len(steps) == 5
    assert not folder.finished


def test_functions_are_found_in_files(tmp_path):
    script = tmp_path / "my_script.py"
    script.write_text(SCRIPT)
    assert load_function(f"{script}:train").__name__ == "train"
    for text, message in (
        (f"{tmp_path}/none.py:train", "there is no file"),
        ("no_such_module:train", "no_such_module cannot be imported"),
        (f"{script}:trian", "has no function trian; it has train"),
        (f"{script}:other", "has no function other"),
        ("train", "names no function; give FILE.py:NAME"),
    ):
        with pytest.raises(ValueError, match=message):
            load_function(text)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [("()", "too many positional arguments"), ("(run, model)", "missing a required argument: 'model'")],
)
def test_a_function_that_cannot_be_called_with_its_run_is_refused(tmp_path, parameters, reason):
    script = tmp_path / "my_script.py"
    script.write_text(f"def train{parameters}:\n    return 1.0\n")
    config = replace(of_function(f"{script}:train"), epochs=4, batch_size=8, lr=0.1)
    with pytest.raises(
        ValueError, match=re.escape(f"with run alone, but is defined with {parameters} ({reason}")
    ):
        check_task(config, set())


def test_options_that_the_function_decides_on_are_refused(tmp_path):
    script = tmp_path / "my_script.py"
    script.write_text(SCRIPT)
    config = replace(of_function(f"{script}:train"), epochs=4, batch_size=8, lr=0.1)
    check_task(config, set())
    object.__setattr__(config, "optimizer", "adamw")
    with pytest.raises(ValueError, match=r"--optimizer is adamw, which .*:train decides on itself"):
        check_task(config, {"optimizer"})


def test_the_metric_has_the_name_that_it_is_given():
    config = of_function("tests:f")
    assert metric_of(config).heading == "accuracy %"
    assert metric_of(config).margin == 0.5
    object.__setattr__(config.own, "metric", "RMSE")
    object.__setattr__(config.own, "lower_is_better", True)
    assert metric_of(config).heading == "RMSE (lower is better)"
    assert metric_of(config).margin == 0


def test_a_result_that_is_not_finite_is_a_run_that_diverged(tmp_path):
    def diverged(run):
        return loop(run) * math.nan

    summary, folder = train_with(diverged, tmp_path)
    assert math.isnan(summary.result)
    assert folder.finished


def test_a_run_of_a_function_is_recorded(tmp_path):
    left = tmp_path / "dynamics"
    left.mkdir()
    (left / "epoch-00000.parquet").write_text("of a run that was killed")
    (tmp_path / "run").mkdir()
    name = f"tests:{loop.__name__}"
    GIVEN[name] = loop
    config = replace(of_function(name), epochs=4, batch_size=8, lr=0.1, record=True)
    run = RunFolder(tmp_path / "run")
    run.create(config)
    left.rename(tmp_path / "run/dynamics")
    train_run(config, OwnData(), run)
    assert read_dynamics(tmp_path / "run").num_epochs == 4
