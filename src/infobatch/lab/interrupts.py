"""Ctrl-C: the main process stops at a step boundary, and its loader processes leave that to it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Note Ctrl-C instead of raising ``KeyboardInterrupt``; a second press raises it all the same.

    Returns:
        A context manager that gives a function: whether Ctrl-C was pressed since it was entered.
    """
    pressed = False

    def note(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)


def ignore_interrupts(worker: int) -> None:
    """Make a loader process ignore Ctrl-C, for the main process ends it at a step boundary.

    Args:
        worker: The number of the loader process, which a DataLoader gives to its ``worker_init_fn``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
