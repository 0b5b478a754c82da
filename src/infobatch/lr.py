"""Learning-rate schedules that follow the data, not the step count."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, Protocol, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from infobatch.inputs import listed

LRScaling = Literal["none", "sqrt", "linear"]
LR_SCALINGS: tuple[LRScaling, ...] = get_args(LRScaling)
_POWERS: dict[LRScaling, float] = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}


class Run(Protocol):
    @property
    def progress(self) -> float: ...

    @property
    def mean_weight(self) -> float: ...


class ProgressScheduler:
    """Drives a step-based learning-rate schedule by the fraction of the training done.

    Made by :meth:`DynamicPruner.lr_scheduler`. Call :meth:`step` after each update in place of the
    wrapped scheduler's: it steps that one until its count is the fraction of ``total_steps`` done, so
    that warm-up, peak and final rate come where they would on full data, whatever was pruned.

    ``scaling``: where it is not ``"none"`` the optimiser's updates are made with rates larger than the
    schedule's by the mean weight of the epoch's samples, or its root, for there are as many times fewer
    of them; between updates its rates are the schedule's.
    """

    def __init__(
        self, scheduler: LRScheduler, run: Run, total_steps: int, scaling: LRScaling = "none"
    ) -> None:
        if not isinstance(scheduler, LRScheduler) or hasattr(scheduler, "patience"):
            raise TypeError(
                f"{type(scheduler).__name__} does not count steps, so progress cannot drive it; "
                "call its own step() as you would without pruning"
            )
        check_lr_scaling(scaling, LR_SCALINGS)
        self.scheduler = scheduler
        self.total_steps = total_steps
        self._run = run
        self._num_steps = 0
        self._power = _POWERS[scaling]
        self._rates: list[Any] = []
        if self._power:
            self.optimizer.register_step_pre_hook(self._scale)
            self.optimizer.register_step_post_hook(self._restore)

    @property
    def optimizer(self) -> Optimizer:
        return self.scheduler.optimizer

    def step(self) -> None:
        due = math.floor(self._run.progress * self.total_steps + 1e-6)
        while self._num_steps < due:
            self.scheduler.step()
            self._num_steps += 1

    def get_last_lr(self) -> list[Any]:
        """The schedule's rates for the next update, one for each parameter group, before scaling."""
        return self.scheduler.get_last_lr()

    def _scale(self, *arguments: Any) -> None:
        factor = self._run.mean_weight**self._power
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _restore(self, *arguments: Any) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate

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


def check_lr_scaling(scaling: str, choices: Iterable[str]) -> None:
    if scaling not in choices:
        raise ValueError(f"scaling is {scaling!r}; choose {listed(choices)}")
