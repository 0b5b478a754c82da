"""Ctrl-C and SIGTERM stop a run at a step boundary."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from helpers.commands import start
from infobatch.lab.interrupts import let_go, outlive_signals, stop_on_signals, words_of


def wait_for(path: Path) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_stopping_leaves_a_resumable_run(number, status, tmp_path):
    out = tmp_path / "run"
    options = ["--data", "digits", "--epochs", 500, "--device", "cpu"]
    process = start("train", *options, "--out", out, log=tmp_path / "printed")
    wait_for(out / "metrics.jsonl")
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == status
    printed = (tmp_path / "printed").read_text()
    assert f"infobatch train --out {out} --resume" in printed
    assert "Traceback" not in printed
    assert (out / "checkpoint.pt").exists()
    assert not (out / "summary.json").exists()


class Slow:
    def __len__(self):
        return 20

    def __getitem__(self, index):
        time.sleep(0.01)
        return index


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_loader_processes_outlive_what_all_processes_are_sent(number):
    batches = iter(DataLoader(Slow(), 2, num_workers=2, worker_init_fn=outlive_signals))
    for _ in range(2):
        next(batches)  # one of each process
    for process in multiprocessing.active_children():
        os.kill(process.pid, number)
    assert len(list(batches)) == 8


def test_signals_may_come_again_but_a_second_ctrl_c_ends_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stopped_by:
        assert stopped_by() == 0
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
            assert stopped_by() == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before


class Unreadable(torch.utils.data.Dataset):
    """Its second sample cannot be read."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index == 1:
            raise ValueError("b.png is not a readable image; remove it")
        return index


def test_the_error_of_a_loader_process_is_a_line_and_lets_it_end():
    def fail():
        loader = DataLoader(
            Unreadable(), num_workers=1, persistent_workers=True, worker_init_fn=outlive_signals
        )
        return list(loader)

    with pytest.raises(ValueError, match="Original Traceback") as raised:
        fail()
    assert words_of(raised.value) == "b.png is not a readable image; remove it"
    assert words_of(ValueError("as\nit is")) == "as\nit is"
    assert multiprocessing.active_children()
    let_go(raised.value)
    assert not multiprocessing.active_children()
