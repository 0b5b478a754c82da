"""A step-based schedule that is driven by progress."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from torch.optim import Optimizer

from infobatch.inputs import check_choice
from infobatch.lr.drive import drive_of
from infobatch.lr.rates import LR_SCALINGS, LRScaling
from infobatch.lr.schedules import advance, check_counts_steps, check_reaches, check_total_steps

__all__ = ["ProgressScheduler"]

_POWERS: dict[LRScaling, float] = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}
_STATE = {"num_steps", "due", "total_steps", "scheduler", "start", "rates"}


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

    A rate depends on the schedule and on the run's position alone. A run that is resumed with another
    schedule, batch size, number of ranks or length has the rate that it would have there if it had been
    so from the start.

    Args:
        scheduler: A scheduler made for ``total_steps`` steps on full data: any of PyTorch's, timm's or
            mmengine's that counts steps or epochs.
        run: Whose progress drives it.
        total_steps: The steps that ``scheduler`` was made for, above 0.
        scaling: ``"none"`` leaves the schedule's rates. A pruned epoch has fewer steps than full data by
            the mean weight of its samples: ``"linear"`` multiplies its rates by that, ``"sqrt"`` by the
            root. The rates are multiplied only while the optimizer updates; in between they are the
            schedule's, and those are what states save. After an update that raised they are the
            schedule's again once :meth:`step` is called, or the next update begins. Several schedules of
            one optimizer multiply once, if any of them does so, and cannot do so differently. Of several
            runs with one optimizer the one whose schedule was made last does. Keep the schedule: nothing
            is multiplied once it is gone.

    Attributes:
        scaling: As given.
        start: The scheduler's state at its start.
        loaded: The state that was loaded, until the next step.
        count: How many steps the scheduler has made.

    Raises:
        TypeError: For a scheduler that counts no steps, such as ReduceLROnPlateau, or a ``scaling`` of
            rates whose optimizer is none of PyTorch's.
        ValueError: For another ``scaling``, for two ways of scaling one optimizer in one run, or for a
            number of steps that the scheduler does not have.
    """

    def __init__(
        self, scheduler: Any, run: HasProgress, total_steps: float, scaling: LRScaling = "none"
    ) -> None:
        check_counts_steps(scheduler)
        check_total_steps(total_steps)
        check_reaches(scheduler, total_steps)
        check_choice("scaling", scaling, LR_SCALINGS)
        self.scheduler = scheduler
        self.total_steps = total_steps
        self.start: Mapping[str, Any] = scheduler.state_dict()
        self.loaded: dict[str, Any] | None = None
        self._run = run
        self.count = 0
        self.scaling = scaling
        self._drive = drive_of(self.optimizer, run)
        self._drive.add(self)
        if self.due:
            self.place()

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer whose rates it sets."""
        optimizer: Optimizer = self.scheduler.optimizer
        return optimizer

    @property
    def due(self) -> int:
        """The count of the schedule where the run is."""
        return math.floor(self._run.progress * self.total_steps + 1e-6)

    @property
    def factor(self) -> float:
        """What rates are multiplied by in the updates of the epoch under way."""
        return float(self._run.mean_weight ** _POWERS[self.scaling])

    def step(self) -> None:
        """Step the wrapped scheduler as often as the progress made since asks for."""
        self._drive.rates.put_back()
        due = self.due
        if due > self.count:
            advance(self.scheduler, self.count, due)
            self.count = due
            self.loaded = None

    def get_last_lr(self) -> list[Any]:
        """The schedule's rates for the next update, one for each parameter group, before scaling."""
        if hasattr(self.scheduler, "get_last_lr"):
            rates: list[Any] = self.scheduler.get_last_lr()
            return rates
        return [group["lr"] for group in self._drive.rates.read()]

    # -- State -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What the schedule needs to go on."""
        return {
            "num_steps": self.count,
            "due": self.due,
            "total_steps": self.total_steps,
            "scheduler": self.scheduler.state_dict(),
            "start": self.start,
            "rates": self._drive.rates.read(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the run is, which may be loaded before or after, and so may the optimizer.

        A state of this schedule at this position is taken as it is. In a run of another length, or with
        another schedule, the new schedule is stepped from its start.

        Raises:
            ValueError: If the state is that of an unwrapped scheduler, or of an earlier version.
        """
        missing = _STATE - state.keys()
        if missing:
            raise ValueError(
                f"the state has no {sorted(missing)[0]!r}, so it is not of a schedule that "
                "pruner.lr_scheduler wrapped, or of an earlier version. Leave it out: the pruner's "
                "state says where the run is, and a schedule made anew is brought there"
            )
        self.loaded = state
        self.place()

    @property
    def can_continue(self) -> bool:
        """Whether the loaded state is of this schedule, at the position where the run is."""
        state = self.loaded
        if state is None or (state["due"], state["total_steps"]) != (self.due, self.total_steps):
            return False
        try:
            return bool(_settings(state["start"]) == _settings(self.start))
        except (RuntimeError, ValueError):  # tensors or arrays, of which it is not said if all are equal
            return False

    def place(self) -> None:
        """Bring schedule and rates to where the run is, now that something was loaded."""
        self._drive.place()


def _settings(start: Mapping[str, Any]) -> dict[str, Any]:
    """What a schedule was made with, as its state at the start tells."""
    told = {name: value for name, value in start.items() if not name.startswith("_last_")}
    return {**told, "_schedulers": [_settings(part) for part in start.get("_schedulers", ())]}
