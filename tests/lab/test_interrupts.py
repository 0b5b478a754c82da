"""Ctrl-C stops a run at a step boundary."""

import os
import signal
import time
from pathlib import Path

from helpers.commands import start


def wait_for(path: Path) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.05)


def test_interrupting_leaves_a_resumable_run(tmp_path):
    out = tmp_path / "run"
    options = ["--data", "digits", "--epochs", 500, "--device", "cpu"]
    process = start("train", *options, "--out", out, log=tmp_path / "printed")
    wait_for(out / "metrics.jsonl")
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130
    printed = (tmp_path / "printed").read_text()
    assert f"infobatch train --out {out} --resume" in printed
    assert "Traceback" not in printed
    assert (out / "checkpoint.pt").exists()
    assert not (out / "summary.json").exists()
