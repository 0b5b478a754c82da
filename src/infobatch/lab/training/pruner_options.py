"""The options of a run's pruner."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from infobatch.lab.config.policy_spec import make_policy
from infobatch.lab.config.pruned_epochs import delta_of
from infobatch.lab.config.shrinking import shrink_option
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.tasks.registry import TASKS
from infobatch.scores.prior import PriorScores


def pruner_options(
    config: TrainConfig, data: Data, static_scores: Tensor | None, prior_scores: PriorScores | None
) -> dict[str, Any]:
    """Translate a run's options into those of :class:`DynamicPruner`, but for its data and its length.

    Args:
        config: The run's options.
        data: What it trains on.
        static_scores: The scores that a static policy goes by, (N,); None for other policies.
        prior_scores: The losses that are known before the first epoch; None without any.

    Returns:
        Keyword arguments of a pruner.
    """
    return {
        "policy": make_policy(config, data.train_labels, static_scores, protected_samples(config, data)),
        "delta": delta_of(config),
        "warmup_epochs": config.warmup_epochs,
        "target": config.target,
        "ramp": config.ramp if isinstance(config.target, float) else 0.0,
        "seed": config.seed,
        "normalizer": config.normalizer,
        "shrink": shrink_option(config),
        "norms_from": TASKS[config.task].norms_from,
        "prior_scores": prior_scores,
    }


def protected_samples(config: TrainConfig, data: Data) -> Tensor | None:
    """Find the training samples that are kept in every epoch.

    Args:
        config: The run's options.
        data: What it trains on.

    Returns:
        Which samples these are, bool (N,), or None where the policy decides on all.
    """
    share = config.segmentation.protect
    return data.with_rare_classes(share) if share else None
