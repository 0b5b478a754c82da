"""Policies as the command line names them: ``NAME`` or ``NAME:option=value:…``, a policy's spec."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from inspect import signature
from typing import Any

from torch import Tensor

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.names import choose
from infobatch.policies import POLICIES, Policy, Protected, Spaced, takes

FROM_THE_DATA = ("labels", "scores")
"""Options of policies that the data set gives, and a spec cannot."""
BELOW_MEAN = ("infobatch", "bls")
"""Policies whose prune ratio is a share of the samples below the mean; it matters with a target, too."""
SELECTIVE_BACKPROP, PROXY_FILTERING = "selective-backprop", "proxy-filtering"
"""What chooses samples within each batch, by the names that it has among the policies of a contest."""
WITHIN_BATCHES = (SELECTIVE_BACKPROP, PROXY_FILTERING)
PROXY_EXAMPLE = f"{PROXY_FILTERING}:proxy=speed-cnn-narrow"


def name_of(spec: str) -> str:
    """The policy's name, without its options."""
    return spec.split(":")[0]


def inner_name(spec: str) -> str:
    """The name of the policy that decides: the one that the spec's is put around, else its own."""
    names = [
        option.removeprefix("policy=") for option in spec.split(":") if option.startswith("policy=")
    ]
    return names[-1] if names else name_of(spec)


def has_prune_ratio(name: str) -> bool:
    """Whether the policy with this name in ``POLICIES`` takes a prune ratio."""
    return takes(name, "prune_ratio")


def chooses_within_batches(spec: str) -> bool:
    """Whether it is no policy, which chooses for an epoch, but chooses within each batch."""
    return name_of(spec) in WITHIN_BATCHES


def proxy_of(spec: str) -> str:
    """The network by whose losses the samples of a batch are chosen; empty for the one that is trained.

    Args:
        spec: ``selective-backprop``, or ``proxy-filtering:proxy=NAME``.

    Returns:
        The network's name.

    Raises:
        ValueError: If the spec is another.
    """
    if spec == SELECTIVE_BACKPROP:
        return ""
    proxy = spec.removeprefix(f"{PROXY_FILTERING}:proxy=")
    if not proxy or proxy == spec:
        wish = "selective-backprop" if name_of(spec) == SELECTIVE_BACKPROP else PROXY_EXAMPLE
        raise ValueError(f"the policy is {spec!r}; what chooses within batches is given as {wish}")
    return proxy


def folder_name(spec: str) -> str:
    """The spec as part of a folder's name."""
    return re.sub("[:=]", "-", spec)


def parse_policy(spec: str, meets_target: bool = False, **options: Any) -> Policy:
    """Make the policy of a spec.

    Args:
        spec: The policy's name and options, such as ``proportional:floor=0.1:by=gradient_norm``.
        meets_target: Whether a target says how much is left out, in place of a budget that the spec does
            not name.
        options: Further options by keyword, which the spec does not name.

    Returns:
        The policy.

    Raises:
        ValueError: If a name or an option does not exist, or the policy refuses a value.
    """
    name, *texts = spec.split(":")
    policy_class: Callable[..., Policy] = _class_of(spec)
    asked = signature(policy_class).parameters
    own = {key: None for key in asked if key not in ("prune_ratio", *FROM_THE_DATA)}
    if meets_target and "max_noise" in asked:
        options["max_noise"] = None
    for option in texts:
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
        if key in FROM_THE_DATA:
            raise ValueError(f"the policy is {spec!r}; its {key} come from the data set, leave them out")
        choose(f"option of {name}", key, own)
        if isinstance(asked[key].default, (int, float)) and isinstance(_value(text), str):
            raise ValueError(f"the policy is {spec!r}, but its {key} is {text!r}; give a number")
        inner = key == "policy"
        made = parse_policy(text, meets_target, **_ratio(text, options)) if inner else _value(text)
        options[key] = made
    try:
        return policy_class(**options)
    except TypeError as error:
        raise ValueError(f"the policy is {spec!r}, but {error}") from error


def make_policy(
    config: TrainConfig,
    labels: Tensor | None = None,
    scores: Tensor | None = None,
    protected: Tensor | None = None,
) -> Policy:
    """Make the policy of a run.

    Args:
        config: The run's options.
        labels: The class of each training sample, int64 (N,), for policies that go by classes.
        scores: The score of each training sample, (N,), for policies that go by scores made before the
            run.
        protected: Whether each training sample is kept in every epoch, bool (N,); None protects none.

    Returns:
        The policy, which leaves out ``config.target`` where there is one.

    Raises:
        ValueError: If the policy or one of its options does not exist, or it needs labels and there are
            none.
    """
    name = name_of(config.policy)
    _class_of(config.policy)
    if labels is None and takes(name, "labels"):
        raise ValueError(
            f"--policy {name} goes by the class of each sample, and {config.data} gives --task "
            f"{config.task} no single class; take another"
        )
    known: dict[str, Any] = {"labels": labels, "scores": scores}
    if name in BELOW_MEAN or config.target is None:  # else the target says how many
        known["prune_ratio"] = config.prune_ratio
    options = {key: known[key] for key in known if takes(name, key)}
    made = parse_policy(config.policy, config.target is not None, **options)
    if protected is None or name == "none":
        return made
    if isinstance(made, Spaced):
        return Spaced(Protected(made.policy, protected))
    return Protected(made, protected)


def _class_of(spec: str) -> type[Policy]:
    """The policy's class."""
    name = name_of(spec)
    if name in WITHIN_BATCHES:
        proxy = " --proxy NAME" if name == PROXY_FILTERING else ""
        alone = PROXY_EXAMPLE if proxy else f"{SELECTIVE_BACKPROP} alone"
        raise ValueError(
            f"{spec} draws from each batch, not from an epoch: for one run give --policy none "
            f"--backward-share 0.5{proxy}, in a contest {alone}"
        )
    return choose("policy", name, POLICIES)


def _ratio(spec: str, options: dict[str, Any]) -> dict[str, Any]:
    """The prune ratio, for a policy within another."""
    own = signature(_class_of(spec)).parameters
    return {key: options[key] for key in ("prune_ratio",) if key in own and key in options}


def _value(text: str) -> Any:
    """The Python value that a text stands for, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
