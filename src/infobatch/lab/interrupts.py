"""Signals to stop: the main process does so at a step boundary, and loader processes leave it that."""

from __future__ import annotations

import gc
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

GRACE_SECONDS = 30.0
"""How long a loader process outlives SIGTERM, for the main process to end its step."""


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], int]]:
    """Note Ctrl-C and SIGTERM, the sign that a job is preempted, instead of ending at once.

    A second Ctrl-C raises ``KeyboardInterrupt`` all the same. SIGTERM may come more than once, from a
    launcher and from a cluster's scheduler.

    Returns:
        A context manager that gives a function: the number of the first signal that has come since it
        was entered, 0 if none has.
    """
    first = 0

    def note(number: int, frame: Any) -> None:
        nonlocal first
        if first and number == signal.SIGINT:
            raise KeyboardInterrupt
        first = first or number

    signals = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, note) for number in signals]
    try:
        yield lambda: first
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)


def outlive_signals(worker: int) -> None:
    """Have a loader process leave it to the main process to stop, which ends it at a step boundary.

    It ignores Ctrl-C, which reaches both, and lives on for :data:`GRACE_SECONDS` after SIGTERM, which
    clusters send to all processes of a job.

    Args:
        worker: The number of the loader process, which a DataLoader gives to its ``worker_init_fn``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)


def let_go(error: BaseException | None) -> None:
    """Let go of what raised an error, so that its loader processes end now and not after their grace.

    Args:
        error: The error, of which nothing is used afterwards but its words; those it came from let go.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()


def words_of(error: BaseException) -> str:
    """What an error says; of one that a loader process hands on, without its traceback.

    Args:
        error: The error.
    """
    words = str(error)
    if "in DataLoader worker process" not in words:
        return words
    return words.strip().splitlines()[-1].partition(": ")[2]


def _end_later(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)  # SIGALRM then ends the process
