"""The rates of one optimizer: those of its schedules, multiplied only while it updates."""

from __future__ import annotations

import weakref
from typing import Any, Literal, Protocol, get_args

from torch import Tensor
from torch.optim import Optimizer

LRScaling = Literal["none", "sqrt", "linear"]
LR_SCALINGS: tuple[LRScaling, ...] = get_args(LRScaling)

Rates = list[dict[str, Any]]
"""For each parameter group, the entries that schedules set."""

_SCHEDULED = ("lr", "max_lr", "min_lr", "swa_lr")
_CYCLED = ("momentum", "betas", "max_momentum", "base_momentum")


class HasFactor(Protocol):
    """What tells the factor of a step: the schedules of one run."""

    @property
    def factor(self) -> float | None: ...


class DrivenRates:
    """The rates of an optimizer that schedules drive.

    In each step they are multiplied once, by the factor of one run: of those that still have a schedule
    the one whose schedule was made last. After the step they are put back. A step that fails is not
    heard of again, so its rates are kept: what reads, sets or multiplies rates next goes by those.

    Args:
        optimizer: Whose rates they are: one that others may wrap, and that wraps none.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = weakref.ref(optimizer)
        self._followed: list[weakref.ref[HasFactor]] = []
        self._unscaled: list[tuple[dict[str, Any], Any]] = []  # groups that are scaled; their rates
        self._listens = False

    @property
    def optimizer(self) -> Any:
        """The optimizer; None once it is gone."""
        return self._optimizer()

    def follow(self, run: HasFactor) -> None:
        """Go by the factor of a run's schedules from now on, for as long as it is not None."""
        others = [each for each in self._followed if each() is not None and each() is not run]
        self._followed = [*others, weakref.ref(run)]

    def listen(self, scaling: LRScaling) -> None:
        """Have the optimizer tell when it updates; until then nothing is multiplied.

        Raises:
            TypeError: If it cannot.
        """
        optimizer = self.optimizer
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"scaling is {scaling!r}, which multiplies rates while the optimizer updates, but "
                f"{type(optimizer).__name__} is none of PyTorch's and does not tell when it does. Give "
                "scaling='none', or a schedule of an optimizer of PyTorch's"
            )
        if not self._listens:
            optimizer.register_step_pre_hook(self._scale)
            optimizer.register_step_post_hook(self._step_done)
            optimizer.register_state_dict_post_hook(self._save_unscaled)
            self._listens = True

    def read(self) -> Rates:
        """The entries that schedules set, without what a step multiplies them by."""
        rates = []
        for group in self.optimizer.param_groups:
            values = {**group, "lr": self._unscaled_rate(group)} if "lr" in group else group
            rates.append({name: _copied(values[name]) for name in sorted(_set_in(group))})
        return rates

    def set(self, rates: Rates) -> None:
        """Set what :meth:`read` gave."""
        self.put_back()
        for group, values in zip(self.optimizer.param_groups, rates, strict=False):
            for name, value in values.items():
                _set(group, name, value)

    def put_back(self) -> None:
        """Take back what a step multiplied, which it did itself unless it failed."""
        for group, rate in self._unscaled:
            _set(group, "lr", rate)
        self._unscaled = []

    # -- What the optimizer calls ------------------------------------------------------------------

    def _scale(self, optimizer: Any, *arguments: Any) -> None:
        self.put_back()
        runs = [run for each in self._followed if (run := each()) is not None]
        factors = (run.factor for run in reversed(runs))
        factor = next((factor for factor in factors if factor is not None), 1.0)
        if factor != 1:
            self._unscaled = [(group, _copied(group["lr"])) for group in optimizer.param_groups]
            for group, rate in self._unscaled:
                _set(group, "lr", rate * factor)

    def _step_done(self, *arguments: Any) -> None:
        self.put_back()

    def _save_unscaled(self, optimizer: Any, state: dict[str, Any]) -> None:
        if self._unscaled:
            for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True):
                saved["lr"] = self._unscaled_rate(group)

    def _unscaled_rate(self, group: dict[str, Any]) -> Any:
        return next((rate for scaled, rate in self._unscaled if scaled is group), group["lr"])


_RATES: weakref.WeakKeyDictionary[Any, DrivenRates] = weakref.WeakKeyDictionary()


def driven_rates(optimizer: Any) -> DrivenRates:
    """The rates of an optimizer, which wraps none: one object, whatever runs drive them."""
    if optimizer not in _RATES:
        _RATES[optimizer] = DrivenRates(optimizer)
    return _RATES[optimizer]


def _set_in(group: dict[str, Any]) -> set[str]:
    """The names of the entries of a group that schedules set."""
    names = {*_SCHEDULED, *(_CYCLED if "max_momentum" in group else ())}
    for name in group:
        if name.startswith("initial_"):
            names |= {name, name.removeprefix("initial_")}
    return names & group.keys()


def _set(group: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(group.get(name), Tensor):
        group[name].fill_(value)  # a captured graph knows the tensor
    else:
        group[name] = _copied(value)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
