"""Policies as they are named on the command line: ``NAME`` or ``NAME:option=value:…``."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from inspect import signature
from typing import Any

from infobatch.lab.names import choose
from infobatch.policies import POLICIES, Policy


def name_of(spec: str) -> str:
    return spec.split(":")[0]


def make(spec: str, **given: Any) -> Policy:
    """The policy of a spec, such as ``proportional:floor=0.1:by=gradient_norm``.

    ``given``: what is known of its options otherwise. ``ValueError`` for a name or an option that does
    not exist, or a value that the policy refuses.
    """
    name, *options = spec.split(":")
    kind: Callable[..., Policy] = choose("policy", name, POLICIES)
    known = signature(kind).parameters
    for option in options:
        key, equals, text = option.partition("=")
        if not equals:
            raise ValueError(
                f"the policy is {spec!r}; give its options as NAME:option=value, such as "
                "proportional:floor=0.1"
            )
        choose(f"option of {name}", key, known)
        if key == "prune_ratio":
            raise ValueError(f"the policy is {spec!r}; its ratio is an option of its own, --prune-ratio")
        if key in ("labels", "scores"):
            raise ValueError(f"the policy is {spec!r}; its {key} come from the data set, leave them out")
        given[key] = _value(text)
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"the policy is {spec!r}, but {error}") from error


def folder_name(spec: str) -> str:
    return re.sub("[:=]", "-", spec)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
