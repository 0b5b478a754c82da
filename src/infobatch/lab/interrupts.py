"""Ctrl-C: the main process stops at a step boundary, its loader processes leave that to it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether Ctrl-C was pressed; a second press stops at once."""
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
    """Ctrl-C is for the main process, which stops the loader's processes at a step boundary."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
