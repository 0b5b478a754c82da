"""Learning-rate schedules that follow the data, not the step count."""

from __future__ import annotations

import math
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


class HasProgress(Protocol):
    @property
    def progress(self) -> float: ...


class ProgressScheduler:
    """Drives a step-based learning-rate schedule by the fraction of the training done.

    Made by :meth:`DynamicPruner.lr_scheduler`. Call :meth:`step` after each update in place of the
    wrapped scheduler's: it steps that one until its count is the fraction of ``total_steps`` done, so
    that warm-up, peak and final rate come where they would on full data, whatever was pruned.
    """

    def __init__(self, scheduler: LRScheduler, run: HasProgress, total_steps: int) -> None:
        if not isinstance(scheduler, LRScheduler) or hasattr(scheduler, "patience"):
            raise TypeError(
                f"{type(scheduler).__name__} does not count steps, so progress cannot drive it; "
                "call its own step() as you would without pruning"
            )
        self.scheduler = scheduler
        self.total_steps = total_steps
        self._run = run
        self._num_steps = 0

    @property
    def optimizer(self) -> Optimizer:
        return self.scheduler.optimizer

    def step(self) -> None:
        due = math.floor(self._run.progress * self.total_steps + 1e-6)
        while self._num_steps < due:
            self.scheduler.step()
            self._num_steps += 1

    def get_last_lr(self) -> list[Any]:
        """The rates the next update uses, one for each parameter group."""
        return self.scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        return {
            "num_steps": self._num_steps,
            "total_steps": self.total_steps,
            "scheduler": self.scheduler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on in a run of another length or batch size, too: where the schedule was, to its end."""
        self._num_steps = state["num_steps"]
        self.scheduler.load_state_dict(state["scheduler"])
        if isinstance(self.scheduler, LambdaLR):  # its function, which knows its length, is in no state
            self._num_steps = round(self._num_steps * self.total_steps / state["total_steps"])
            self.scheduler.last_epoch = self._num_steps
        else:
            self.total_steps = state["total_steps"]
