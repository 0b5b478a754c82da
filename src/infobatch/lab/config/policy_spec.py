"""Policies as they are named on the command line: ``NAME`` or ``NAME:option=value:…``."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from inspect import signature
from typing import Any

from infobatch.lab.names import choose
from infobatch.policies import POLICIES, Policy

OF_THE_DATA = ("labels", "scores")


def name_of(spec: str) -> str:
    return spec.split(":")[0]


def kind_of(spec: str) -> type[Policy]:
    """The policy's class."""
    name = name_of(spec)
    if name == SELECTIVE_BACKPROP:
        raise ValueError(
            f"{spec} draws from each batch, not from an epoch, and has no options: for one run give "
            f"--policy none --backward-share 0.5, in a contest {SELECTIVE_BACKPROP} alone"
        )
    return choose("policy", name, POLICIES)


def make(spec: str, **given: Any) -> Policy:
    """The policy of a spec, such as ``proportional:floor=0.1:by=gradient_norm``.

    ``given``: what is known of its options otherwise. ``ValueError`` for a name or an option that does
    not exist, or a value that the policy refuses.
    """
    name, *options = spec.split(":")
    kind: Callable[..., Policy] = kind_of(spec)
    own = {key: None for key in signature(kind).parameters if key not in ("prune_ratio", *OF_THE_DATA)}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals:
            raise ValueError(
                f"the policy is {spec!r}; give its options as NAME:option=value, such as "
                "proportional:floor=0.1"
            )
        if key == "prune_ratio":
            raise ValueError(
                f"the policy is {spec!r}; its ratio is what --prune-ratio gives, or in a contest --save"
            )
        if key in OF_THE_DATA:
            raise ValueError(f"the policy is {spec!r}; its {key} come from the data set, leave them out")
        choose(f"option of {name}", key, own)
        given[key] = make(text, **_ratio(text, given)) if key == "policy" else _value(text)
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"the policy is {spec!r}, but {error}") from error


def _ratio(spec: str, given: dict[str, Any]) -> dict[str, Any]:
    """The prune ratio, for a policy within another."""
    own = signature(kind_of(spec)).parameters
    return {key: given[key] for key in ("prune_ratio",) if key in own and key in given}


def folder_name(spec: str) -> str:
    return re.sub("[:=]", "-", spec)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


SELECTIVE_BACKPROP = "selective-backprop"
"""Its name among the policies of a contest."""
