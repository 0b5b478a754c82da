"""What arms are called: in tables, in plots, and while they are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from infobatch.lab.comparison.variants import CONTROLS, PRUNED, Arm, reads_ratio
from infobatch.lab.config.noise_budget import without_budget
from infobatch.lab.config.policy_spec import chooses_within_batches, name_of
from infobatch.lab.config.shrinking import shrinks_batches
from infobatch.lab.config.train import TrainConfig
from infobatch.policies import POLICIES, BiasedPolicy

FULL_DATA = "full data"

NAMES = {
    "infobatch": "InfoBatch",
    "neyman": "Neyman",
    "bls": "BLS",
    "rs2": "RS2",
    "ucb": "UCB",
    "seta": "SeTa",
    "order-dp": "OrderDP",
    "repb": "RePB",
    "kakurenbo": "KAKURENBO",
    "ies": "IES",
    "rcap": "RCAP",
    "el2n": "EL2N",
    "grand": "GraNd",
}
"""What policies are called whose name is not made of words."""


def labels_of(arms: Sequence[Arm], config: TrainConfig) -> list[str]:
    """What the arms of a comparison are called, each another name.

    Args:
        arms: The arms.
        config: The options that the runs of the comparison share.
    """
    short = [label_of(arm, config, names_cost=False) for arm in arms]
    return [
        label if short.count(label) == 1 else label_of(arm, config, names_cost=True)
        for arm, label in zip(arms, short, strict=True)
    ]


def label_of(arm: Arm, config: TrainConfig, names_cost: bool) -> str:
    """What an arm is called in tables, plots and progress.

    Args:
        arm: The arm.
        config: The options that the runs of its comparison share.
        names_cost: Whether a control is told by the variant whose cost it has.
    """
    variant = arm.variant
    if variant is None:
        return FULL_DATA
    target = config.target if variant.target is None else variant.target
    if chooses_within_batches(variant.policy) and arm.kind == PRUNED:
        by = name_of(variant.policy).replace("-", " ")
        return f"{by}, {100 * (variant.target or 0):g} % saved (biased)"
    ratio = variant.prune_ratio
    if arm.kind == PRUNED:
        return policy_label(replace(config, policy=variant.policy, prune_ratio=ratio, target=target))
    control = CONTROLS[arm.kind].label
    if variant.target is not None:
        return f"{control}, {100 * variant.target:g} % saved"
    if names_cost:  # of several that are not the same
        of = policy_label(replace(config, policy=variant.policy, prune_ratio=ratio, target=target))
        return f"{control}, as {of}"
    return control


def policy_label(config: TrainConfig) -> str:
    """What the pruning of a run is called, by the run's options."""
    if config.backward_share < 1:
        by = f"filtering by {config.proxy}" if config.proxy else "selective backprop"
        return f"{by} of {config.backward_share:.0%} (biased)"
    if config.policy == "none":
        return FULL_DATA
    spec, budget = config.policy, None
    if config.target is None:
        spec, budget = without_budget(spec)
    name, *options = spec.split(":")
    if budget is not None:
        options.insert(0, f"{budget:g}")
    label = " ".join([NAMES.get(name, name.replace("-", " ")), *options])
    if reads_ratio(name, config.target is not None):
        label += f" r={config.prune_ratio:g}"
    if isinstance(config.target, float):
        label += f", {100 * config.target:g} % saved"
    auto = replace(config, shrink="auto")
    if shrinks_batches(config) != shrinks_batches(auto):
        label += ", smaller batches" if shrinks_batches(config) else ", fewer steps"
    return label + " (biased)" * issubclass(POLICIES[name], BiasedPolicy)
