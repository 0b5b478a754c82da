"""Which schedules can be driven, how each is moved, and what they say of their own length."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any, Literal

from torch.optim.lr_scheduler import (
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    StepLR,
)

from infobatch.user_warnings import warn_user

VANISHED = 1e-6
"""A rate that is decayed to less than this part of itself was not meant to be."""
EARLY = 10
"""What ends in the first of so many parts of a run may have been meant to end with it."""


def check_counts_steps(schedule: Any) -> None:
    """Refuse with ``TypeError`` what does not go by a number of steps or epochs."""
    kinds = (isinstance(schedule, LRScheduler), _is_timms(schedule), _is_mmengines(schedule))
    if not any(kinds) or _follows_metric(schedule):
        raise TypeError(
            f"{type(schedule).__name__} does not count steps, so progress cannot drive it. One that "
            "follows a metric is stepped as without pruning: call its own step(). To one that is told "
            "the number of a step give that of full data: pruner.full_steps_done"
        )


def check_total_steps(total_steps: object) -> None:
    """Refuse a number of steps that no schedule can have."""
    is_number = isinstance(total_steps, Real) and not isinstance(total_steps, bool)
    if not is_number or not 0 < total_steps < math.inf:  # type: ignore[operator]
        raise ValueError(
            f"total_steps is {total_steps!r}; it is the number of steps that the schedule was made for, "
            "above 0"
        )


def own_unit(schedule: Any) -> Literal["epochs", "steps"] | None:
    """What a schedule says that it counts; None for PyTorch's, which do not say."""
    if isinstance(schedule, LRScheduler):
        return None
    by_epoch = getattr(schedule, "t_in_epochs", getattr(schedule, "by_epoch", None))
    return None if by_epoch is None else "epochs" if by_epoch else "steps"


def check_own_length(schedule: Any, num_epochs: int, full_steps: int) -> None:
    """Refuse with ``ValueError`` a schedule of epochs that would be stepped once a batch.

    Where that is not certain it is warned of.

    Args:
        schedule: One for which nobody said how many steps it was made for.
        num_epochs: Epochs of the run.
        full_steps: Batches of the run on full data.
    """
    if num_epochs >= full_steps:
        return

    def told(sign: str) -> str:
        return (
            f"{type(schedule).__name__} seems to count epochs: {sign}, and the run has {num_epochs} "
            f"epochs of {full_steps:,} batches in all, each of which would be a step. Give "
            "total_steps=pruner.run_length, or total_steps=pruner.full_steps if it does count batches"
        )

    if (sign := _sign_of_epochs(schedule, num_epochs, full_steps)) is not None:
        raise ValueError(told(sign))
    if (sign := _hint_of_epochs(schedule, num_epochs, full_steps)) is not None:
        warn_user(told(sign))


def _sign_of_epochs(schedule: Any, num_epochs: int, full_steps: int) -> str | None:
    """What shows that a schedule counts epochs; None if nothing does."""
    if num_epochs in ends_of(schedule):
        return f"it ends at {num_epochs}"
    signs = (_sign_of_part(part, num_epochs, full_steps) for part in _parts(schedule, num_epochs))
    return next((sign for sign in signs if sign is not None), None)


def _sign_of_part(schedule: Any, num_epochs: int, full_steps: int) -> str | None:
    if isinstance(schedule, MultiStepLR):
        last = max(schedule.milestones, default=full_steps)
        if last <= num_epochs and last < full_steps / min(num_epochs, EARLY):
            return f"its last change comes at {last}"
    step_size = getattr(schedule, "step_size", 1)
    if isinstance(schedule, StepLR | ExponentialLR) and step_size < num_epochs:
        num_decays = full_steps // step_size
        if schedule.gamma**num_decays < VANISHED:
            return f"it would be multiplied by {schedule.gamma:g} {num_decays:,} times"
    if isinstance(schedule, LambdaLR):
        half = full_steps // 2  # one of batches may be at 0 at its end, and a wave at one of two places
        if all(_has_vanished(each, num_epochs, (half, half * 3 // 2)) for each in schedule.lr_lambdas):
            return f"its rates would have vanished at {half:,}"
    return None


def _has_vanished(factor: Callable[[int], float], num_first: int, counts: Iterable[int]) -> bool:
    """Whether a factor is next to nothing, or below 0, at some counts, beside what it was at first."""
    try:
        least = VANISHED * max(map(factor, range(num_first)))
        return all(factor(count) < least for count in counts)
    except Exception:  # of the user's function, which need not know these counts
        return False


def _hint_of_epochs(schedule: Any, num_epochs: int, full_steps: int) -> str | None:
    """What lets a schedule seem to count epochs, though it may be meant so; None if nothing does."""
    for end in ends_of(schedule):
        is_of_batches = end * num_epochs % full_steps == 0  # it comes with the end of an epoch
        if num_epochs <= 2 * end <= 3 * num_epochs and EARLY * end <= full_steps and not is_of_batches:
            return f"it ends at {end}"
    for part in _parts(schedule, num_epochs):
        first = getattr(part, "T_0", full_steps)
        if first <= num_epochs and first * max(num_epochs, EARLY) < full_steps:
            return f"it restarts at {first}"
    return None


def _parts(schedule: Any, num_epochs: int) -> list[Any]:
    """The schedules that one is made of, of several in turn the last; none if that begins too late."""
    if not hasattr(schedule, "_schedulers"):
        return [schedule]
    parts = schedule._schedulers
    if milestones := getattr(schedule, "_milestones", None):
        parts = parts[-1:] if milestones[-1] < num_epochs else []
    return [each for part in parts for each in _parts(part, num_epochs)]


def ends_of(schedule: Any) -> set[int]:
    """The counts at which a schedule that comes to an end does so, as far as it tells.

    Args:
        schedule: One of PyTorch's, or one made of several.
    """
    parts = getattr(schedule, "_schedulers", None)
    if parts:
        milestones = getattr(schedule, "_milestones", None)
        if not milestones:
            return set().union(*map(ends_of, parts))
        return {milestones[-1] + end for end in ends_of(parts[-1])}
    if getattr(schedule, "end_factor", 0) >= getattr(schedule, "start_factor", 1):
        return set()  # a warm-up
    names = ("T_max", "total_steps", "total_iters")
    constant = not hasattr(schedule, "start_factor") and hasattr(schedule, "factor")
    return set() if constant else {getattr(schedule, name) for name in names if hasattr(schedule, name)}


def check_reaches(schedule: Any, total_steps: float) -> None:
    """Refuse a schedule that raises when it is stepped to ``total_steps``."""
    if isinstance(schedule, OneCycleLR) and schedule.total_steps < math.floor(total_steps):
        raise ValueError(
            f"OneCycleLR was made for {schedule.total_steps:,} steps and would be driven for "
            f"{total_steps:,}; make it for as many: total_steps=pruner.full_steps"
        )


def advance(schedule: Any, count: int, until: int) -> None:
    """Move a schedule from the ``count`` that it has to a later one."""
    if _is_timms(schedule):  # told a number, and told it by epochs or by updates
        move = schedule.step if own_unit(schedule) == "epochs" else schedule.step_update
        move(until)
    else:
        for _ in range(count, until):
            schedule.step()


def advance_from_start(schedules: list[Any], untils: list[int]) -> None:
    """Move schedules of one optimizer from their start, in turns, as training does."""
    with warnings.catch_warnings():
        # The optimizer's own steps were taken by another process.
        warnings.filterwarnings("ignore", "Detected call of|Seems like `optimizer.step")
        if len(schedules) == 1:
            advance(schedules[0], 0, untils[0])
            return
        for count in range(max(untils)):
            for schedule, until in zip(schedules, untils, strict=True):
                if count < until:
                    advance(schedule, count, count + 1)


def _is_timms(schedule: Any) -> bool:
    return not isinstance(schedule, LRScheduler) and callable(getattr(schedule, "step_update", None))


def _is_mmengines(schedule: Any) -> bool:
    return hasattr(schedule, "by_epoch") and hasattr(schedule, "last_step")


def _follows_metric(schedule: Any) -> bool:
    return hasattr(schedule, "patience") or hasattr(getattr(schedule, "lr_scheduler", None), "patience")
