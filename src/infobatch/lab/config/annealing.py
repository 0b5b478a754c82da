"""When a run's pruning ends, so that it finishes on all data."""

from __future__ import annotations

from infobatch.lab.config.policy_spec import inner_name
from infobatch.lab.config.train import TrainConfig
from infobatch.policies import POLICIES, Policy, default_delta


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
