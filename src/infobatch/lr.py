"""Learning-rate schedules that follow the data, not the step count."""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from infobatch.inputs import check_choice

__all__ = ["LRScaling", "ProgressScheduler"]

LRScaling = Literal["none", "sqrt", "linear"]
LR_SCALINGS: tuple[LRScaling, ...] = get_args(LRScaling)
_POWERS: dict[LRScaling, float] = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}


class HasProgress(Protocol):
    """What drives a schedule: a pruner, or a trainer that has one."""

    @property
    def progress(self) -> float: ...

    @property
    def mean_weight(self) -> float: ...


class ProgressScheduler:
    """Drives a step-based learning-rate schedule by the fraction of the training done.

    Made by :meth:`DynamicPruner.lr_scheduler`. Call :meth:`step` after each update, in place of the
    wrapped scheduler's. It steps that one until its count is the fraction of ``total_steps`` done, so
    that warm-up, peak and final rate come where they would on full data, whatever was pruned.

    Args:
        scheduler: A scheduler made for ``total_steps`` steps on full data.
        run: Whose progress drives it.
        total_steps: The steps that ``scheduler`` was made for.
        scaling: ``"none"`` leaves the schedule's rates. A pruned epoch has fewer steps than full data by
            the mean weight of its samples: ``"linear"`` multiplies its rates by that, ``"sqrt"`` by the
            root. The rates are multiplied only while the optimizer updates; in between they are the
            schedule's.

    Raises:
        TypeError: For a scheduler that counts no steps, such as ReduceLROnPlateau.
        ValueError: For another ``scaling``.
    """

    def __init__(
        self, scheduler: LRScheduler, run: HasProgress, total_steps: int, scaling: LRScaling = "none"
    ) -> None:
        if not isinstance(scheduler, LRScheduler) or hasattr(scheduler, "patience"):
            raise TypeError(
                f"{type(scheduler).__name__} does not count steps, so progress cannot drive it; "
                "call its own step() as you would without pruning"
            )
        check_choice("scaling", scaling, LR_SCALINGS)
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
        """The optimizer whose rates it sets."""
        return self.scheduler.optimizer

    def step(self) -> None:
        """Step the wrapped scheduler as often as the progress made since asks for."""
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
        """What the schedule needs to go on."""
        return {
            "num_steps": self._num_steps,
            "total_steps": self.total_steps,
            "scheduler": self.scheduler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the schedule was, to its end; also in a run of another length or batch size."""
        self._num_steps = state["num_steps"]
        self.scheduler.load_state_dict(state["scheduler"])
        if isinstance(self.scheduler, LambdaLR):  # its function, which knows its length, is in no state
            self._num_steps = round(self._num_steps * self.total_steps / state["total_steps"])
            self.scheduler.last_epoch = self._num_steps
        else:
            self.total_steps = state["total_steps"]
