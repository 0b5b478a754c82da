"""Contests: which variants let every policy save the same share of a run's cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from infobatch.batching import Batching, EpochSizes
from infobatch.lab.comparison.variants import Variant
from infobatch.lab.config.noise_budget import has_budget, with_budgets
from infobatch.lab.config.policy_spec import (
    BELOW_MEAN,
    SELECTIVE_BACKPROP,
    WITHIN_BATCHES,
    chooses_within_batches,
    make_policy,
    name_of,
    proxy_of,
)
from infobatch.lab.config.pruned_epochs import delta_of
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.names import choose
from infobatch.lab.runs.records import FORWARD_COST
from infobatch.lab.training.validate import check_config
from infobatch.policies import POLICIES
from infobatch.policies.base import check_targets
from infobatch.schedule import Schedule

WELL_LEARNED = 0.75
"""The share of the samples that is to count as well learned in :func:`ratio_for`."""
SHORT = 8
"""A last batch that is shorter than the others by more than this factor is warned of."""
CONTESTANTS = (*(name for name in POLICIES if name != "none"), SELECTIVE_BACKPROP)


def contestants(
    config: TrainConfig,
    policies: Sequence[str],
    targets: Sequence[float],
    num_samples: int,
    labels: Tensor | None = None,
    protected: Tensor | None = None,
    noises: Sequence[float] = (),
) -> tuple[list[Variant], list[str]]:
    """The variants of a contest: each policy at each target that it can meet, or budget of noise.

    InfoBatch and BLS meet a target by raising their prune ratio: see :func:`ratio_for`.

    Args:
        config: The options that all runs share.
        policies: The specs of the policies.
        targets: Shares of the run's cost to save, in (0, 1); :meth:`Variant.config` turns each into what
            is left out.
        num_samples: N, the number of training samples.
        labels: The class of each training sample, int64 (N,); None where there is no single class.
        protected: Whether each training sample is kept in every epoch, bool (N,); None protects none.
        noises: Budgets of noise, above 1; policies that have one decide by it how much they leave out,
            and have no target.

    Returns:
        The variants, and a sentence for each policy that cannot take part at a target, or for what else
        may disturb the contest.

    Raises:
        ValueError: If a policy does not exist or is named twice, or no policy can meet a target.
    """
    variants, reasons = [], []
    policies = distinct_policies(config, with_budgets([p.strip() for p in policies], noises))
    if noises:
        variants = [Variant(policy) for policy in policies if has_budget(policy)]
        policies = [policy for policy in policies if not has_budget(policy)]
        for variant in variants:
            _check(variant.config(config), num_samples, labels, protected)
    for target in dict.fromkeys(targets):
        most = _schedule(replace(config, target=target), num_samples).most_pruned
        last = (num_samples - most) % config.batch_size
        if policies and config.shrink != "batches" and 0 < last < config.batch_size / SHORT:
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


def distinct_policies(config: TrainConfig, policies: Sequence[str]) -> list[str]:
    """Remove policies that are named more than once.

    Args:
        config: The options that all runs share.
        policies: The specs of the policies.

    Returns:
        The specs, each once.

    Raises:
        ValueError: If a policy cannot be made, or two specs make the same policy.
    """
    known: dict[str, str] = {}
    for spec in map(str.strip, policies):
        choose("policy", name_of(spec), dict.fromkeys([*POLICIES, *WITHIN_BATCHES]))
        if chooses_within_batches(spec):
            made = f"one by {proxy_of(spec)}"
        else:
            given = (torch.zeros(1, dtype=torch.int64), torch.zeros(1))
            made = f"{name_of(spec)} {make_policy(replace(config, policy=spec, target=None), *given)!r}"
        if known.setdefault(made, spec) != spec:
            raise ValueError(f"{spec} is {known[made]}, with options at their defaults; name it once")
    return list(known.values())


def _check(
    config: TrainConfig, num_samples: int, labels: Tensor | None, protected: Tensor | None
) -> None:
    """Raise ``ValueError`` if the policy cannot be trained, or cannot leave out as much as it has to."""
    check_config(config)
    policy = make_policy(config, labels, torch.zeros(num_samples), protected)
    try:
        if config.target is not None:
            check_targets(policy, _schedule(config, num_samples).numbers_pruned, num_samples)
    except ValueError as error:
        if policy.refreshes:
            raise ValueError(
                f"it runs the model on what it leaves out, which costs {FORWARD_COST:.0%} of what that "
                f"saves, and would have to leave out {config.target:.0%}: {error}"
            ) from None
        raise


def _schedule(config: TrainConfig, num_samples: int) -> Schedule:
    """The schedule of a run with these options."""
    last = None
    if config.shrink != "batches":
        last = Batching(config.batch_size).last_batch(num_samples)
    return Schedule(
        num_samples,
        config.epochs,
        delta_of(config),
        config.warmup_epochs,
        config.target,
        config.ramp,
        EpochSizes(last=last),
    )


def ratio_for(share: float) -> float:
    """The prune ratio with which the paper's rule leaves out a share of an epoch's samples.

    It is the paper's 0.5, or a larger ratio with which three quarters of the samples count as well
    learned, which is about as many as lie below the mean. If no ratio achieves that, it is halfway
    between the smallest possible ratio, with which the rule would be random pruning, and 1.

    Args:
        share: The share of an epoch's samples to leave out, in [0, 1).

    Returns:
        The prune ratio, in [0.5, 1).
    """
    return round(max(0.5, min(share / WELL_LEARNED, (share + 1) / 2)), 3)
