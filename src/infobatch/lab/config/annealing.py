"""When a run's pruning ends, so that it finishes on all data."""

from __future__ import annotations

from dataclasses import replace

from infobatch.lab.config.policy_spec import inner_name
from infobatch.lab.config.train import TrainConfig
from infobatch.policies import POLICIES, Policy


def delta_of(config: TrainConfig) -> float:
    """The share of a run after which all data is used again, in [0, 1].

    Args:
        config: The run's options; where they leave it open, it is what the policy is made for.
    """
    if config.delta is not None:
        return config.delta
    return POLICIES.get(inner_name(config.policy), Policy).default_delta


def annealed_alike(config: TrainConfig) -> TrainConfig:
    """The options of a run among others of the same cost, all of which prune the same epochs.

    Args:
        config: The run's options; where they leave open when pruning ends, it is what most policies do.
    """
    return config if config.delta is not None else replace(config, delta=Policy.default_delta)
