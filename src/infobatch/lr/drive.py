"""The schedules that drive one optimizer, and where its rates stand after something was loaded."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiplicativeLR

from infobatch.lr.rates import LRScaling, Rates, driven_rates
from infobatch.lr.schedules import advance_from_start


class Member(Protocol):
    """A schedule that drives an optimizer: :class:`ProgressScheduler`."""

    scheduler: Any
    scaling: LRScaling
    start: Mapping[str, Any]
    loaded: dict[str, Any] | None
    count: int

    @property
    def factor(self) -> float: ...

    @property
    def due(self) -> int: ...

    @property
    def can_continue(self) -> bool: ...


class Drive:
    """The schedules that drive one optimizer in one run.

    A rate depends on the schedules and on the position of the run alone. Whatever is loaded, in whatever
    order, schedules and rates are brought to that position.

    Args:
        optimizer: Whose rates they set: one that others may wrap, and that wraps none.

    Attributes:
        rates: The rates that they set.
    """

    def __init__(self, optimizer: Any) -> None:
        self.rates = driven_rates(optimizer)
        self._members: list[weakref.ref[Member]] = []
        self._start: Rates = []
        self._counts: list[int] = []  # where it was placed last, with these rates
        self._placed: Rates = []
        placing = weakref.WeakMethod(self.place_rates)

        def place_rates(optimizer: Any) -> None:
            place = placing()
            if place is not None:
                place()

        if isinstance(optimizer, Optimizer):
            optimizer.register_load_state_dict_post_hook(place_rates)

    def add(self, member: Member) -> None:
        """Take in a schedule, which stands at its start; it replaces one of the same scheduler.

        Raises:
            TypeError: If it scales rates, and the optimizer does not tell when it updates.
            ValueError: If it scales them, and another schedule does so otherwise.
        """
        others = [other for other in self.members if other.scheduler is not member.scheduler]
        if member.scaling != "none":
            _check_same_scaling(member, others)
            self.rates.listen(member.scaling)
        self.rates.follow(self)
        self.rates.put_back()
        self._members = [weakref.ref(other) for other in (*others, member)]
        self._start = self.rates.read()
        if not others:
            for number, rates in enumerate(self._start):
                rates["lr"] = _first_rate(member.scheduler, number, rates["lr"])
        self._counts = []

    @property
    def members(self) -> list[Member]:
        """The schedules that still exist, in the order they were made."""
        return [member for reference in self._members if (member := reference()) is not None]

    @property
    def factor(self) -> float | None:
        """What the rates of a step are multiplied by; None once no schedule is left."""
        members = self.members
        factors = (member.factor for member in members if member.scaling != "none")
        return next(factors, 1.0) if members else None

    def place(self) -> None:
        """Bring schedules and rates to where the run is, after it or one of them was loaded.

        States of the same schedules at the same position are taken as they are, with whatever else was
        done to the rates. Otherwise the schedules are stepped anew from their start.
        """
        members = self.members
        if self.rates.optimizer is not None and all(member.can_continue for member in members):
            for member in members:
                assert member.loaded is not None
                load(member.scheduler, member.loaded["scheduler"])
                self.rates.set(member.loaded["rates"])
                member.count = member.loaded["num_steps"]
            self._note()
        elif self.rates.optimizer is not None:
            self._step_anew([member.due for member in members])

    def place_rates(self) -> None:
        """Bring the rates to where the schedules are, after the optimizer was loaded."""
        counts = [member.count for member in self.members]
        if self.rates.optimizer is not None and counts:
            if counts != self._counts:
                self._step_anew(counts)
            self.rates.set(self._placed)

    def _step_anew(self, counts: list[int]) -> None:
        members = self.members
        self.rates.set(self._start)
        for member, count in zip(members, counts, strict=True):
            load(member.scheduler, member.start)
            member.count = count
        advance_from_start([member.scheduler for member in members], counts)
        self._note()

    def _note(self) -> None:
        self._counts, self._placed = [member.count for member in self.members], self.rates.read()


def _check_same_scaling(member: Member, others: list[Member]) -> None:
    for other in others:
        if other.scaling not in ("none", member.scaling):
            raise ValueError(
                f"scaling is {member.scaling!r}, but {type(other.scheduler).__name__}, which drives the "
                f"same optimizer in this run, has {other.scaling!r}, and the rates that both set are "
                "multiplied once. Give both the same scaling. If this schedule takes the other's place, "
                "delete that one first, or make the optimizer anew"
            )


_DRIVES: weakref.WeakKeyDictionary[Any, weakref.WeakKeyDictionary[Any, Drive]]
_DRIVES = weakref.WeakKeyDictionary()


def drive_of(optimizer: Any, run: Any) -> Drive:
    """The schedules that drive an optimizer, in whatever it is wrapped, in a run."""
    while hasattr(getattr(optimizer, "optimizer", None), "param_groups"):
        optimizer = optimizer.optimizer  # Accelerate's, Fabric's or mmengine's, around PyTorch's
    of_runs = _DRIVES.setdefault(optimizer, weakref.WeakKeyDictionary())
    if run not in of_runs:
        of_runs[run] = Drive(optimizer)
    return of_runs[run]


def place_schedules(run: Any) -> None:
    """Bring all schedules that a run drives to where it is, now that it was loaded."""
    for of_runs in list(_DRIVES.values()):
        if run in of_runs:
            of_runs[run].place()


def load(schedule: Any, state: Mapping[str, Any]) -> None:
    """Load a schedule's state, of which PyTorch's take away what they have read."""
    schedule.load_state_dict(_copied_state(state))


def _copied_state(state: Mapping[str, Any]) -> dict[str, Any]:
    copy = dict(state)
    if "_schedulers" in copy:
        copy["_schedulers"] = [_copied_state(part) for part in copy["_schedulers"]]
    return copy


def _first_rate(schedule: Any, group: int, rate: Any) -> Any:
    """A group's first rate, which it lacks if the optimizer was loaded before its schedule was made."""
    factor = _first_factor(schedule, group)
    if factor is None:
        return rate
    first = _innermost(schedule).base_lrs[group] * factor
    return rate if math.isclose(first, rate, rel_tol=1e-9) else first


def _first_factor(schedule: Any, group: int) -> float | None:
    """By what a schedule multiplies a group's own rate at first; None where that is not known."""
    if hasattr(schedule, "_milestones"):
        return None  # it sets the rate at its start, whatever that was
    if hasattr(schedule, "_schedulers"):
        factors = [_first_factor(part, group) for part in schedule._schedulers]
        known = [factor for factor in factors if factor is not None]
        return math.prod(known) if len(known) == len(factors) else None
    if isinstance(schedule, MultiplicativeLR) and schedule.last_epoch == 0:
        return 1.0
    closed_form = getattr(schedule, "_get_closed_form_lr", None)
    if closed_form is None or schedule.last_epoch != 0 or not schedule.base_lrs[group]:
        return None
    return float(closed_form()[group] / schedule.base_lrs[group])


def _innermost(schedule: Any) -> Any:
    parts = getattr(schedule, "_schedulers", None)
    return _innermost(parts[0]) if parts else schedule
