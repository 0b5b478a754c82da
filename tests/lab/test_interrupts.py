"""Ctrl-C and SIGTERM stop a run at a step boundary."""

import os
import signal
import time
from pathlib import Path

import pytest

from helpers.commands import start
from infobatch.lab.interrupts import stop_on_signals


def wait_for(path: Path) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    """The processes that one has started, and theirs."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [grandchild for child in found for grandchild in children_of(child)]


@pytest.mark.parametrize(
    ("number", "status", "options"),
    [
        (signal.SIGINT, 130, []),
        (signal.SIGTERM, 143, []),
        (signal.SIGTERM, 143, ["--workers", 2]),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGTERM to all processes"],
)
def test_stopping_leaves_a_resumable_run(number, status, options, tmp_path):
    out = tmp_path / "run"
    typed = ["--data", "digits", "--epochs", 500, "--device", "cpu", *options]
    process = start("train", *typed, "--out", out, log=tmp_path / "printed")
    wait_for(out / "metrics.jsonl")
    loaders = children_of(process.pid)
    assert bool(loaders) == bool(options)
    for pid in [*loaders, process.pid]:
        os.kill(pid, number)
    process.join(60)
    assert process.exitcode == status
    printed = (tmp_path / "printed").read_text()
    assert f"infobatch train --out {out} --resume" in printed
    assert "Traceback" not in printed
    assert (out / "checkpoint.pt").exists()
    assert not (out / "summary.json").exists()


def test_signals_may_come_again_but_a_second_ctrl_c_ends_at_once():
    with stop_on_signals() as stopped_by:
        assert stopped_by() == 0
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
            assert stopped_by() == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
