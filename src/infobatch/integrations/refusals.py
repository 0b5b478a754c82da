"""What several frameworks offer that does not go together with pruning; each with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, NamedTuple

from infobatch.layouts import Replicated
from infobatch.policies import POLICIES, takes
from infobatch.policies.base import refuse_refreshing
from infobatch.pruner import DynamicPruner

RUN_OPTIONS = ("num_epochs", "max_steps", "rank", "num_replicas")
"""Options of a pruner that a Trainer knows: the run's length and the processes."""


class Refusal(NamedTuple):
    """Which values of a setting are refused, why, and what to do instead."""

    refuses: Callable[[Any], bool]
    reason: str
    remedy: str


def other_than(allowed: object) -> Callable[[Any], bool]:
    """Refuses every value but one."""
    return lambda value: value != allowed


def check_settings(holder: Any, refusals: Mapping[str, Refusal]) -> None:
    """Refuse values of a Trainer's settings; a setting that this version does not have is fine."""
    for name, (refuses, reason, remedy) in refusals.items():
        if hasattr(holder, name) and refuses(value := getattr(holder, name)):
            raise ValueError(f"{name} is {value!r}: {reason}; {remedy}")


def check_run_options(options: Mapping[str, Any], trainer: str, receiver: str, source: str) -> None:
    """Refuse options of a pruner that are the Trainer's, that it cannot serve, or that it does not have.

    An error names the ``trainer``, the ``receiver`` that the options were given to, and the ``source``
    that the Trainer takes its own values from.
    """
    refuse_refreshing(options.get("policy"), trainer)
    for name in RUN_OPTIONS:
        if name in options:
            raise ValueError(
                f"{receiver} is given {name}={options[name]!r}; {trainer} takes it from {source}, so "
                "leave it out"
            )
    _check_names(options, receiver)
    layout = options.get("layout")
    if layout is not None and not isinstance(layout, Replicated):
        raise ValueError(
            f"{receiver} is given the layout {layout!r}: checkpoints of {trainer} hold the pruner's "
            "state of the first process alone, and with sharded scores each has its own; leave it out"
        )


def _check_names(options: Mapping[str, Any], receiver: str) -> None:
    """Refuse options that a pruner does not have, among them those of its policy."""
    known = [name for name in signature(DynamicPruner).parameters if name != "dataset"]
    for name in options.keys() - set(known):
        option = f"{name}={options[name]!r:.60}"
        of_policies = [kind.__name__ for policy, kind in POLICIES.items() if takes(policy, name)]
        if of_policies:
            reason = "which its policy takes"
            remedy = f"give policy={of_policies[0]}({option}) or the like"
        else:
            reason = "which is no option of a pruner"
            remedy = f"there are {', '.join(each for each in known if each not in RUN_OPTIONS)}"
        raise TypeError(f"{receiver} is given {option}, {reason}; {remedy}")


def no_pruner_in(checkpoint: str, saved: str, remedy: str) -> str:
    """The error's text for a checkpoint that was saved without a pruner."""
    return (
        f"{checkpoint}, so which samples the run trained and their scores are not known: it was saved "
        f"{saved}. {remedy}"
    )


def check_processes(pruner: DynamicPruner, num_processes: int, framework: str, remedy: str) -> None:
    """Refuse a pruner that was made before the framework's processes knew of one another."""
    num_replicas = pruner.replicas.num_replicas
    if num_replicas != num_processes:
        raise ValueError(
            f"the pruner was made for {num_replicas} processes and {framework} has {num_processes}, so "
            f"that each would train another's samples too; {remedy}"
        )
