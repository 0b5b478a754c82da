"""Every policy at the same costs: which variants a contest compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from infobatch.lab.compare import Variant
from infobatch.lab.config import TrainConfig
from infobatch.lab.names import choose
from infobatch.policies import POLICIES, InfoBatch
from infobatch.schedule import Schedule

CONTESTANTS = tuple(name for name in POLICIES if name != "none")


def contestants(
    config: TrainConfig, policies: Sequence[str], targets: Sequence[float], num_samples: int
) -> tuple[list[Variant], list[str]]:
    """A variant for each policy and target that it can meet; and why others cannot.

    ``targets``: shares of the run's samples to leave out. InfoBatch meets one by raising its prune
    ratio, from 0.5 on. ``ValueError`` if no policy can meet one.
    """
    variants, reasons = [], []
    for target in targets:
        schedule = Schedule(num_samples, config.epochs, config.delta, config.warmup_epochs, target)
        for policy in policies:
            choose("policy", policy, POLICIES)
            most = schedule.most_pruned
            ratio = InfoBatch.reaching(most, num_samples).prune_ratio if policy == "infobatch" else 0.5
            made = replace(config, policy=policy, prune_ratio=ratio, target=target)
            try:
                made.make_policy().check_target(most, num_samples)
                variants.append(Variant(policy, ratio, target))
            except ValueError as error:
                reasons.append(f"{policy} does not take part at {100 * target:g} % saved: {error}.")
    return variants, reasons
