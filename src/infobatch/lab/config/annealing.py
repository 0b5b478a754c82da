"""When a run's pruning ends, so that it finishes on all data."""

from __future__ import annotations

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
