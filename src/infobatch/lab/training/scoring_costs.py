"""What scores cost that are made before a run, and options that make up for it.

The papers' scores come from whole trainings or from ten networks, and cost as much as they save. Here
the networks are trained for a small share of the run, and the run gives up what they cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from infobatch.lab.config import policy_spec
from infobatch.lab.config.policy_spec import make_policy
from infobatch.lab.config.train import PASS, TrainConfig
from infobatch.lab.models import make_model
from infobatch.lab.models.norms import Norm
from infobatch.lab.runs.records import FORWARD_COST
from infobatch.policies.base import reads_losses


@dataclass(frozen=True)
class Scoring:
    """How much is computed for a static policy's scores.

    Args:
        num_networks: The networks whose scores are averaged, each trained on all data.
        share: The share of the run's epochs for which each is trained, in (0, 1).
        min_epochs: The least number of epochs for which each is trained.
        pass_cost: What a network's last pass over the samples costs, in samples trained for each.
    """

    num_networks: int
    share: float
    min_epochs: int
    pass_cost: float

    def num_epochs(self, run_length: float) -> int:
        """Compute how long each network is trained.

        Args:
            run_length: The run's epochs.

        Returns:
            The network's epochs.
        """
        return max(self.min_epochs, round(self.share * run_length))


SCORINGS = {
    "forgetting": Scoring(1, share=0.2, min_epochs=2, pass_cost=0),
    "el2n": Scoring(2, share=0.05, min_epochs=1, pass_cost=FORWARD_COST),
    "grand": Scoring(2, share=0.05, min_epochs=1, pass_cost=1),
}
"""The static policies, which keep the samples with the highest scores."""


def has_static_scores(config: TrainConfig) -> bool:
    """Whether a run's policy goes by scores that are made before it.

    Args:
        config: The run's options.
    """
    return policy_spec.name_of(config.policy) in SCORINGS


def scoring_epochs(config: TrainConfig) -> float:
    """Compute what a run's static scores cost.

    Args:
        config: The run's options.

    Returns:
        The cost in epochs of full data; 0 without static scores.
    """
    if not has_static_scores(config):
        return 0
    scoring = SCORINGS[policy_spec.name_of(config.policy)]
    return scoring.num_networks * (scoring.num_epochs(config.epochs) + scoring.pass_cost)


def prior_pass_epochs(config: TrainConfig) -> float:
    """Compute what a forward pass over all samples before the first epoch costs.

    Args:
        config: The run's options.

    Returns:
        The cost in epochs of full data; 0 without such a pass.
    """
    return FORWARD_COST if config.prior_scores == PASS else 0.0


PROXY_PERIOD = 4
"""A proxy is trained on one batch in so many, and only run on the others."""


def choosing_cost(config: TrainConfig, chooses: bool = True) -> float:
    """Compute what it costs to choose the samples of a batch, beside training on them.

    Args:
        config: The options of a run that trains on a share of each batch.
        chooses: Whether samples are chosen; False for an epoch in which a proxy only learns.

    Returns:
        The cost for each sample of the batch, as a share of training on it: a forward pass, or those of
        the proxy and its training, by the operations of both on images of 32 pixels.
    """
    if not config.proxy:
        return FORWARD_COST if chooses else 0.0
    trained = 1 / PROXY_PERIOD
    ours = _operations(config.model, config.stem_stride, config.norm)
    relative = _operations(config.proxy, 1, config.norm) / ours
    return relative * (trained + chooses * (1 - trained) * FORWARD_COST)


@cache
def _operations(model: str, stem_stride: int, norm: Norm) -> float:
    """The floating-point operations of a forward pass over an image."""
    with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
        make_model(model, (3, 32, 32), 10, stem_stride, norm).eval()(torch.zeros(1, 3, 32, 32))
    return float(counter.get_total_flops())


def without_unread_scores(config: TrainConfig) -> TrainConfig:
    """Leave out prior scores that the run's policy would not read.

    Args:
        config: The run's options.

    Returns:
        The same options, or a copy without prior scores.
    """
    policy = make_policy(config, torch.zeros(1, dtype=torch.int64), torch.zeros(1))
    return config if reads_losses(policy) else replace(config, prior_scores="")


def pruned_throughout(config: TrainConfig) -> TrainConfig:
    """Let a static policy keep the same samples from the first epoch to the last.

    Args:
        config: The run's options.

    Returns:
        For a static policy a copy without warm-up, annealing and ramp; else the same options.
    """
    if not has_static_scores(config):
        return config
    return replace(config, warmup_epochs=0, delta=1.0, ramp=0.0)


def at_equal_cost(config: TrainConfig) -> TrainConfig:
    """Raise a run's target, so that it saves in all what its target says.

    Args:
        config: The run's options, with a target that is a share.

    Returns:
        A copy that leaves out as much more as its scores cost; the same options if they cost nothing.

    Raises:
        ValueError: If that leaves nothing to train.
    """
    share = (scoring_epochs(config) + prior_pass_epochs(config)) / config.epochs
    if not share:
        return config
    assert isinstance(config.target, float)
    if config.target + share >= 1:
        raise ValueError(
            f"its scores cost {100 * share:.3g} % of the run, and no more than "
            f"{100 * (1 - config.target):.3g} % may be spent in all; save less, or make the run longer"
        )
    return replace(config, target=config.target + share)
