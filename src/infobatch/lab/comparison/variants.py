"""What is compared: full data, ways of pruning, and the controls at a pruned run's cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from infobatch.lab.config.policy_spec import (
    BELOW_MEAN,
    chooses_within_batches,
    folder_name,
    has_prune_ratio,
    name_of,
    proxy_of,
)
from infobatch.lab.config.pruned_epochs import delta_of, prunable_epochs
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.runs.records import FORWARD_COST
from infobatch.lab.training.scoring_costs import (
    at_equal_cost,
    choosing_cost,
    prior_pass_epochs,
    pruned_throughout,
    without_unread_scores,
)
from infobatch.policies import POLICIES

FULL = "full"
PRUNED = "pruned"
FEWER = "fewer-epochs"
FEWER_SCALED = "fewer-epochs-lr"
SAME_STEPS = "same-steps"
RANDOM = "random"
RANDOM_SAME_STEPS = "random-same-steps"
UNDERSAMPLED = "undersampled"
UNDERSAMPLED_SAME_STEPS = "undersampled-same-steps"


class Control(NamedTuple):
    """What a user would do instead of pruning, at the cost of a pruned run.

    Args:
        label: What it is called.
        policy: What leaves out samples as a pruned run does; none for shorter runs on full data.
        shrink: What it has less of than full data: steps, or samples in a batch.
    """

    label: str
    policy: Literal["none", "random", "undersampling"] = "none"
    shrink: Literal["steps", "batches"] = "steps"

    @property
    def is_shorter(self) -> bool:
        """Whether it trains on full data, for a shorter time."""
        return self.policy == "none"


CONTROLS = {
    FEWER: Control("fewer epochs"),
    FEWER_SCALED: Control("fewer epochs lr↑"),
    SAME_STEPS: Control("fewer epochs, same steps", shrink="batches"),
    RANDOM: Control("random pruning", "random"),
    RANDOM_SAME_STEPS: Control("random pruning, same steps", "random", "batches"),
    UNDERSAMPLED: Control("undersampling", "undersampling"),
    UNDERSAMPLED_SAME_STEPS: Control("undersampling, same steps", "undersampling", "batches"),
}
"""The controls by the kinds of their arms."""
BESIDE_FEWER_STEPS = (FEWER, FEWER_SCALED, RANDOM)
BESIDE_SMALLER_BATCHES = (FEWER, FEWER_SCALED, SAME_STEPS, RANDOM_SAME_STEPS)
"""The controls of variants that shrink steps, and of those that shrink batches."""
ON_REQUEST = {SAME_STEPS: "--same-steps", UNDERSAMPLED: "--undersampling"}
"""Controls that can be asked for beside any variant, and what is typed for them."""
SHRUNK = {UNDERSAMPLED: UNDERSAMPLED_SAME_STEPS}
"""What is trained in place of a control that was asked for, beside variants that shrink batches."""


def on_request(same_steps: bool, undersampling: bool, controls: bool = True) -> tuple[str, ...]:
    """Which controls of ``ON_REQUEST`` were asked for.

    Args:
        same_steps: Whether a shorter run in as many steps was.
        undersampling: Whether leaving out by the class alone was.
        controls: Whether there are to be any controls.

    Returns:
        The kinds of their arms.

    Raises:
        ValueError: If one was asked for, and there are to be none.
    """
    asked = {SAME_STEPS: same_steps, UNDERSAMPLED: undersampling}
    kinds = tuple(kind for kind in ON_REQUEST if asked[kind])
    if kinds and not controls:
        raise ValueError(
            f"{ON_REQUEST[kinds[0]]} asks for a control, and --no-controls for none; leave one of them "
            "out"
        )
    return kinds


@dataclass(frozen=True)
class Variant:
    """A way of pruning, or only a budget, which the controls of all policies at one cost share.

    Args:
        policy: The policy's spec; empty for a budget.
        prune_ratio: The policy's prune ratio, in [0, 1), if it has one.
        target: The share of the run's cost to save, in (0, 1); None leaves it to the policy. A policy
            that computes nothing beside its training leaves out this share of the run's samples.
    """

    policy: str
    prune_ratio: float = 0.5
    target: float | None = None

    @property
    def is_budget(self) -> bool:
        """Whether it names no policy, only a cost that is known before any run."""
        return not self.policy

    @property
    def name(self) -> str:
        """Its folder in the comparison's."""
        if self.is_budget:
            return f"save-{100 * (self.target or 0):g}"
        parts = [folder_name(self.policy)]
        if reads_ratio(self.policy, self.target is not None):
            parts.append(f"{self.prune_ratio:g}")
        if self.target is not None:
            parts.append(f"save-{100 * self.target:g}")
        return "-".join(parts)

    def config(self, common: TrainConfig) -> TrainConfig:
        """The options of its runs, with which they save the target after all that they compute.

        Args:
            common: The options that the runs of the comparison share.

        Returns:
            Those options with this variant's policy and what it leaves out.

        Raises:
            ValueError: If the policy cannot be made or cannot save that much.
        """
        if self.target is not None:  # all of one cost prune the same epochs, by whatever means
            common = replace(common, delta=delta_of(replace(common, target=self.target)))
        if chooses_within_batches(self.policy):
            assert self.target is not None
            common = replace(common, proxy=proxy_of(self.policy), resident=False)
            share = _backward_share(self.target, common)
            plain = replace(common, shrink="auto", batch_norm="plain", prior_scores="")
            return replace(plain, policy="none", target=None, backward_share=share)
        target = common.target if self.target is None else self.target
        made = replace(common, policy=self.policy, prune_ratio=self.prune_ratio, target=target)
        made = without_unread_scores(pruned_throughout(made))
        if self.target is None:
            return made
        if POLICIES[name_of(self.policy)].refreshes:  # it computes the losses of what it leaves out
            target = self.target + prior_pass_epochs(made) / made.epochs
            return replace(made, target=round(target / (1 - FORWARD_COST), 9))
        return at_equal_cost(made)

    def has_cost_of(self, other: Variant | None) -> bool:
        """Whether both are known to cost the same.

        Args:
            other: The variant to compare with; None, full data, never costs the same.

        Returns:
            True if they are equal or save the same target.
        """
        if other is None:
            return False
        return self == other or (self.target is not None and self.target == other.target)


def reads_ratio(policy: str, has_target: bool) -> bool:
    """Whether a policy has a prune ratio that matters for what it leaves out.

    Args:
        policy: The policy's spec.
        has_target: Whether a target says how much is left out.
    """
    name = name_of(policy)
    return name in BELOW_MEAN if has_target else has_prune_ratio(name)


def _backward_share(saved: float, config: TrainConfig) -> float:
    """The share of a batch to train on, in epochs that can be pruned, to save ``saved`` of the cost."""
    schedule = prunable_epochs(config)
    pruned = sum(map(schedule.share, schedule.prunable)) / schedule.run_length
    cost = choosing_cost(config)
    share = 1 - cost - saved / pruned
    if share * config.batch_size < 1:
        raise ValueError(
            f"it runs {config.proxy or 'the model'} on all samples, which costs {cost:.0%} of training "
            "on them, and "
            f"to save {saved:.0%} could train on only {max(0.0, share):.1%} of a batch; lower the saving"
        )
    return share


@dataclass(frozen=True)
class Arm:
    """Runs that differ only in their seed: full data, a variant, or a control at its cost.

    Args:
        kind: ``FULL``, ``PRUNED`` or one of ``CONTROLS``.
        variant: What is pruned, or whose cost the control has; None for full data.
    """

    kind: str
    variant: Variant | None = None

    @property
    def name(self) -> str:
        """Its folder in the comparison's."""
        return self.kind if self.variant is None else f"{self.variant.name}/{self.kind}"


def kept_at_cost(
    kept: Sequence[int], num_samples: int, cost: float, last_part: float = 1.0
) -> list[int]:
    """How many samples random pruning keeps of each epoch, at the cost of a pruned run.

    They are as many as the run kept. If the run cost more than training on them, the rest is spread
    evenly over the epochs that were pruned.

    Args:
        kept: The number of samples that the run kept of each epoch.
        num_samples: N, the number of samples of an epoch on full data.
        cost: What the run cost in all, in samples trained.
        last_part: The part of the last epoch that is trained, in (0, 1].

    Returns:
        The number of samples to keep of each epoch, at most N; of a last one that is cut short as if it
        were not.
    """
    more = cost - sum(kept)
    kept = [*kept[:-1], min(num_samples, round(kept[-1] / last_part))]
    num_pruned = sum(k < num_samples for k in kept)
    return [min(num_samples, k + round(more / max(1, num_pruned))) for k in kept]
