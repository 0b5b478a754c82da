"""Which epochs of a run may be pruned, and why a run left nothing out."""

from __future__ import annotations

from infobatch.lab.config.noise_budget import has_budget
from infobatch.lab.config.policy_spec import inner_name
from infobatch.lab.config.train import TrainConfig
from infobatch.policies import POLICIES, Policy, default_delta
from infobatch.schedule import Schedule


def delta_of(config: TrainConfig) -> float:
    """The share of a run after which all data is used again, in [0, 1].

    Args:
        config: The run's options; where they leave it open, it is what the policy and the target are
            made for.
    """
    if config.delta is not None:
        return config.delta
    kind = POLICIES.get(inner_name(config.policy), Policy)
    return default_delta(kind, config.target is not None)


def prunable_epochs(config: TrainConfig) -> Schedule:
    """The epochs of a run in which samples may be left out, whatever its target.

    Args:
        config: The run's options.
    """
    return Schedule(1, config.epochs, delta_of(config), config.warmup_epochs)


def why_nothing_left_out(config: TrainConfig) -> str:
    """Why a run that prunes has trained on everything.

    Args:
        config: The run's options.

    Returns:
        A clause that follows a colon.
    """
    if not prunable_epochs(config).num_prunable:
        return "no epoch could be pruned: warm-up (--warmup-epochs) and annealing (--delta) take all"
    if has_budget(config.policy):
        return "the budget of noise allowed nothing to be left out"
    return "the policy left nothing out of the epochs that could be pruned"
