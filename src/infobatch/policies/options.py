"""The options of policies: their checks, and how a frozen dataclass takes in checked values."""

from __future__ import annotations

from dataclasses import fields
from numbers import Integral, Real
from typing import Any

from infobatch.policies.base import BiasedPolicy, Policy

_NUMBERS = {"float": float, "int": int, "bool": bool}
_KINDS: dict[Any, tuple[type, str]] = {"float": (Real, "a number"), "int": (Integral, "a whole number")}


def set_fields(policy: Policy, /, **values: Any) -> None:
    """Set fields of a policy while it is made; afterwards it is frozen."""
    for name, value in values.items():
        object.__setattr__(policy, name, value)


def use_plain_numbers(policy: Any) -> None:
    """Turn the options that are numbers into Python's own, so that equal policies have equal reprs."""
    for each in fields(policy):
        if each.type in _NUMBERS:
            set_fields(policy, **{each.name: _NUMBERS[each.type](getattr(policy, each.name))})


def check_kinds(policy: Any) -> None:
    """Refuse options that are declared as numbers, and are none; it comes before checks of ranges."""
    for each in fields(policy):
        if each.init and each.type in _KINDS:
            kind, what = _KINDS[each.type]
            value = getattr(policy, each.name)
            if not isinstance(value, kind):
                raise TypeError(f"{each.name} is {value!r}; it must be {what}, such as {each.default}")


def check_prune_ratio(prune_ratio: float) -> None:
    """Refuse a prune ratio that is no number in [0, 1)."""
    if not isinstance(prune_ratio, Real):
        raise TypeError(f"prune_ratio is {prune_ratio!r}; it must be a number, such as 0.5")
    if not 0 <= prune_ratio < 1:
        raise ValueError(
            f"prune_ratio is {prune_ratio}; it is the share to leave out, at least 0 and less "
            "than 1 (at 1 samples would never be seen again)"
        )


def take_prune_ratio(policy: Any) -> None:
    """Check the options of a policy whose prune ratio has no effect with a target, and note it."""
    ratio = policy.prune_ratio
    check_prune_ratio(ratio)
    default = next(each.default for each in fields(policy) if each.name == "prune_ratio")
    set_fields(policy, overruled=None if ratio == default else f"prune_ratio={ratio:g}")
    use_plain_numbers(policy)


def check_floor(floor: float) -> None:
    """Refuse a floor outside (0, 1]."""
    if not 0 < floor <= 1:
        raise ValueError(
            f"floor is {floor}; it is a share of the mean keep probability, above 0 (or samples would "
            "never be seen again) and at most 1 (where all are alike)"
        )


def check_column(by: str, columns: tuple[str, ...]) -> None:
    """Refuse a score column that is not one of ``columns``."""
    if by not in columns:
        raise ValueError(f"by is {by!r}; choose what the probabilities follow: {', '.join(columns)}")


def check_num_strata(strata: int) -> None:
    """Refuse a number of strata that does not lie from 2 to 200."""
    if not 2 <= strata <= 200:
        raise ValueError(f"strata is {strata!r}; it must be a whole number from 2 to 200")


def check_divides(policy: object, asked: str, example: str) -> None:
    """Refuse to wrap what is no policy, or one that can only be asked about all samples at once.

    Args:
        policy: What was given.
        asked: What it would be asked, for the error.
        example: A policy that would do.
    """
    check_is_policy(policy, example)
    assert isinstance(policy, Policy)
    spaces_visits = "credit" in policy.columns
    if isinstance(policy, BiasedPolicy) or spaces_visits or policy.num_samples is not None:
        raise ValueError(
            f"policy is {policy!r}, which cannot be asked {asked}; give an unbiased one that needs no "
            f"labels, such as {example}"
        )


def check_is_policy(policy: object, example: str) -> None:
    """Refuse to wrap what is no policy; ``example`` is one that would do."""
    if not isinstance(policy, Policy):
        hint = ", not its class" if isinstance(policy, type) else ""
        raise TypeError(f"policy is {policy!r}; give an object such as {example}{hint}")
