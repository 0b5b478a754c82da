"""When training pauses between two steps: to write a checkpoint, or to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from infobatch.lab.processes import replicas, total

CHECKPOINT_SECONDS = 60.0
STEPS_BETWEEN_QUESTIONS = 20
"""Several ranks ask each other only this often, for each question makes them wait for one another."""


class Interrupted(Exception):
    """The user, or a signal, asked to stop; what was trained is in the run's checkpoint."""


class Pauses:
    """Decides between steps, alike on all ranks, whether to write a checkpoint and whether to stop.

    Args:
        path: The run's folder, which the error names.
        should_stop: Whether to stop; if it says so on one rank, all do.
    """

    def __init__(self, path: Path, should_stop: Callable[[], bool]) -> None:
        self._path = path
        self._should_stop = should_stop
        self._num_steps = 0
        self._last_saved = time.monotonic()

    def decide(self) -> tuple[bool, bool]:
        """Decide after a step; call it on every rank.

        Returns:
            Whether to write a checkpoint, and whether to stop after it.
        """
        self._num_steps += 1
        if replicas().num_replicas > 1 and self._num_steps % STEPS_BETWEEN_QUESTIONS:
            return False, False
        asked = [self._should_stop(), time.monotonic() - self._last_saved > CHECKPOINT_SECONDS]
        if replicas().num_replicas > 1:  # a signal may have come to one rank alone
            asked = (total(torch.tensor(asked, dtype=torch.int64)) > 0).tolist()
        stop, is_due = asked
        return stop or is_due, stop

    def note_checkpoint(self) -> None:
        """Count the seconds to the next checkpoint from now on."""
        self._last_saved = time.monotonic()

    def pause(self, save: Callable[[], None] = lambda: None) -> None:
        """Write a checkpoint where one is due, and stop if asked to; call it on every rank after a step.

        Args:
            save: Writes the checkpoint; by default there is nothing to save.

        Raises:
            Interrupted: If training is to stop.
        """
        should_save, should_stop = self.decide()
        if should_save:
            save()
            self.note_checkpoint()
        if should_stop:
            raise self.interrupted()

    def interrupted(self) -> Interrupted:
        """The error to raise once the checkpoint is written."""
        return Interrupted(str(self._path))
