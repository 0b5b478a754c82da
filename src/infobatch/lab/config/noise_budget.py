"""Budgets of gradient noise: how ``--noise`` is typed, and which a run keeps to."""

from __future__ import annotations

import math
from collections.abc import Sequence

from infobatch.lab.config.policy_spec import name_of, parse_policy
from infobatch.lab.config.train import TrainConfig
from infobatch.policies import POLICIES, takes

BUDGETED = "noise-budget"
"""The policy that ``--noise`` alone stands for."""
OPTION = "max_noise"
"""Its option, as a spec names it."""


def has_budget(policy: str) -> bool:
    """Whether the policy of a spec keeps to a budget of noise."""
    return name_of(policy) in POLICIES and takes(name_of(policy), OPTION)


def with_budget(policy: str, noise: float) -> str:
    """The spec of a policy with a budget of noise.

    Args:
        policy: The policy's spec.
        noise: The budget.

    Returns:
        The spec, such as ``noise-budget:max_noise=1.1``.

    Raises:
        ValueError: If the budget is 1 or below, the policy has none, or its spec gives one already.
    """
    if not 1 < noise < math.inf:
        raise ValueError(
            f"--noise is {noise:g}; it is the noise of a step relative to one on full data, above 1 (at "
            "1 nothing could be left out), such as 1.1"
        )
    if not has_budget(policy):
        raise ValueError(
            f"--noise is {noise:g}, but the policy {policy} has no budget of noise; leave it out, or "
            f"take --policy {BUDGETED}"
        )
    if any(option.startswith(f"{OPTION}=") for option in policy.split(":")[1:]):
        raise ValueError(f"--noise is {noise:g}, and the policy {policy} has its own; give one of them")
    return f"{policy}:{OPTION}={noise:g}"


def with_budgets(policies: Sequence[str], noises: Sequence[float]) -> list[str]:
    """Policies of which those that have a budget are taken once at each of several.

    Args:
        policies: The specs of the policies.
        noises: The budgets; none leaves the policies as they are.

    Returns:
        The specs, in the order of the policies.

    Raises:
        ValueError: See :func:`with_budget`; also if none of the policies has a budget.
    """
    if noises and not any(map(has_budget, policies)):
        typed = ",".join(f"{noise:g}" for noise in noises)
        raise ValueError(
            f"--noise is {typed}, and none of the policies {', '.join(policies)} has a budget of noise; "
            f"leave it out, or add {BUDGETED} to --policies"
        )
    specs: list[str] = []
    for policy in policies:
        budgeted = noises and has_budget(policy)
        specs += [with_budget(policy, noise) for noise in noises] if budgeted else [policy]
    return specs


def without_budget(policy: str) -> tuple[str, float | None]:
    """The spec of a policy without its budget of noise, and that budget; None if it has none."""
    if not has_budget(policy):
        return policy, None
    options = [option for option in policy.split(":") if not option.startswith(f"{OPTION}=")]
    return ":".join(options), parse_policy(policy).max_noise


def budget_of(config: TrainConfig) -> float | None:
    """The budget of noise that a run keeps to; None without one, or with a target in its place."""
    if config.target is not None or not has_budget(config.policy):
        return None
    return parse_policy(config.policy).max_noise
