"""Every policy at the same costs: which variants a contest compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from infobatch.lab.comparison.comparison import Variant
from infobatch.lab.config.policy_spec import SELECTIVE_BACKPROP, name_of
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.names import choose
from infobatch.lab.runs.records import FORWARD_COST
from infobatch.policies import BELOW_MEAN, POLICIES
from infobatch.schedule import Schedule

WELL_LEARNED = 0.75
SHORT = 8
"""A last batch of less than this part of the others is told of."""
CONTESTANTS = (*(name for name in POLICIES if name != "none"), SELECTIVE_BACKPROP)


def contestants(
    config: TrainConfig,
    policies: Sequence[str],
    targets: Sequence[float],
    num_samples: int,
    labels: Tensor | None = None,
    protected: Tensor | None = None,
) -> tuple[list[Variant], list[str]]:
    """A variant for each policy and target that it can meet; and what is to be said of the others.

    ``targets``: shares of the run's cost to save, which :meth:`Variant.config` turns into what is left
    out. ``num_samples``: N of the training set; ``labels``: their classes, (N,); ``protected``: which of
    them are kept in every epoch, bool (N,). InfoBatch and BLS
    meet a target by raising their prune ratio: see :func:`ratio_for`. ``ValueError`` if no policy can
    meet one.
    """
    variants, reasons = [], []
    policies = told_apart(config, policies)
    for target in dict.fromkeys(targets):
        most = _schedule(replace(config, target=target), num_samples).most_pruned
        last = (num_samples - most) % config.batch_size
        if 0 < last < config.batch_size / SHORT:
            reasons.append(
                f"At {100 * target:g} % saved pruned epochs end with a batch of {last} samples, whose "
                "step is as large as any: all policies may suffer. Another --batch-size avoids it."
            )
        for policy in policies:
            ratio = ratio_for(most / num_samples) if name_of(policy) in BELOW_MEAN else 0.5
            variant = Variant(policy, ratio, target)
            try:
                _check(variant.config(config), num_samples, labels, protected)
                variants.append(variant)
            except ValueError as error:
                reasons.append(f"{policy} does not take part at {100 * target:g} % saved: {error}.")
    return variants, reasons


def told_apart(config: TrainConfig, policies: Sequence[str]) -> list[str]:
    """The policies, each once. ``ValueError`` for one that cannot be made, or is another by its options.

    ``config``: of the contest.
    """
    known: dict[str, str] = {}
    for spec in map(str.strip, policies):
        choose("policy", name_of(spec), dict.fromkeys([*POLICIES, SELECTIVE_BACKPROP]))
        made = spec
        if spec != SELECTIVE_BACKPROP:
            given = (torch.zeros(1, dtype=torch.int64), torch.zeros(1))
            made = f"{name_of(spec)} {replace(config, policy=spec, target=None).make_policy(*given)!r}"
        if known.setdefault(made, spec) != spec:
            raise ValueError(f"{spec} is {known[made]}, with options at their defaults; name it once")
    return list(known.values())


def _check(
    config: TrainConfig, num_samples: int, labels: Tensor | None, protected: Tensor | None
) -> None:
    """Raise ``ValueError`` if the policy cannot leave out what its runs are to leave out, or at all."""
    config.check()
    policy, most = config.make_policy(labels, torch.zeros(num_samples), protected), 0
    try:
        if config.target is not None:
            most = _schedule(config, num_samples).most_pruned
        policy.check_target(most, num_samples)
    except ValueError as error:
        if policy.refreshes:
            raise ValueError(
                f"it looks at what it leaves out, which costs {FORWARD_COST:.0%} of what that saves, "
                f"and would have to leave out {config.target:.0%}: {error}"
            ) from None
        raise


def _schedule(config: TrainConfig, num_samples: int) -> Schedule:
    return Schedule(
        num_samples,
        config.epochs,
        config.delta,
        config.warmup_epochs,
        config.target,
        ramp=config.ramp,
    )


def ratio_for(share: float) -> float:
    """The prune ratio with which the paper's rule leaves out a ``share`` of an epoch's samples.

    The paper's 0.5, or a higher one with which three quarters of the samples count as well learned
    (about as many as lie below the mean). Where that cannot be, it is halfway from the least possible to
    1: at the least, all samples would be alike, and the rule random pruning.
    """
    return round(max(0.5, min(share / WELL_LEARNED, (share + 1) / 2)), 3)
