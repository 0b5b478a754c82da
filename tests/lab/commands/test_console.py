"""What is printed of a run, as it trains and at its end."""

import io
import re
import time

import pytest
from rich.progress import Progress

from infobatch.lab import cli
from infobatch.lab.commands import console, train
from infobatch.lab.commands.console import TimeLeftColumn, duration, plain_console


def test_what_was_looked_at_is_told_as_a_cost(call, tmp_path):
    """Of four epochs of 1,400 two are pruned, by 420 each: a third of 840 is 280."""
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--save", 15]
    code, output, error = call("train", *options, "--policy", "kakurenbo", "--out", tmp_path / "a")
    assert code == 0, error
    assert "4,760 samples" in output
    assert "as much as training on 5,040: 10.0% saved" in " ".join(output.split())


def test_the_noise_is_told_while_a_run_trains(call, tmp_path):
    options = ["--data", "digits", "--train-samples", 400, "--epochs", 3, "--device", "cpu"]
    options += ["--policy", "infobatch"]
    code, output, error = call("train", *options, "--probe", 50, "--out", tmp_path / "r")
    assert code == 0, error
    first, second, last = re.findall(r"epoch \d, .*", output)
    assert re.fullmatch(
        r"epoch 1, 100% kept, test accuracy [\d.]+ %, probed noise \d\.\d\d", first.strip()
    )
    assert "probed" not in second
    assert "noise" not in last
    code, _, error = call("train", *options, "--probe", 1, "--out", tmp_path / "s")
    assert code == 2
    assert "--probe is 1; it must be 0, or at least 2" in error


@pytest.mark.parametrize(("command", "options"), [("train", []), ("compare", ["--seeds", "1"])])
def test_a_terminal_is_shown_one_live_line_with_the_time_left(monkeypatch, tmp_path, command, options):
    terminal = plain_console(file=io.StringIO(), force_terminal=True, width=80)
    for module in (cli, console, train):
        monkeypatch.setattr(module, "console", terminal)
    arguments = ["--data", "digits", "--epochs", "4", "--device", "cpu", "--out", str(tmp_path / "r")]
    cli.main([command, *arguments, *options])
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.file.getvalue())  # without colors
    assert "time left not known yet, " in shown
    assert re.search(r"\d:\d\d left, ", shown)
    if command == "compare":
        assert re.search(r"at most \d:\d\d left, \d of 6 runs, seed 0, noise budget", shown), shown
        assert " 6 of 6 runs, " in shown


def test_the_time_left_counts_down_and_ends_with_the_command():
    column = TimeLeftColumn(end=time.monotonic() + 30)
    progress = Progress(column)
    task = progress.add_task("training", left=3600.0, is_at_most=True)
    assert re.fullmatch("at most 0:(30|29) left,", str(column.render(progress.tasks[task])))
    assert [duration(seconds) for seconds in (-1, 65, 7385)] == ["0:00", "1:05", "2:03:05"]
