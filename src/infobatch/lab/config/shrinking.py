"""What pruned epochs have less of, steps or samples in a batch, and what follows from it."""

from __future__ import annotations

import math

from infobatch import NoPruning, ShrinkBatches
from infobatch.batching import Batching, Shrink
from infobatch.lab.config.policy_spec import inner_name
from infobatch.lab.config.train import TrainConfig
from infobatch.plan import RunPlan
from infobatch.policies import POLICIES

SMALLEST_BATCH = 2
"""Fewest samples in a step: batch norm needs two."""
SLACK = 0.1
"""By how much a batch may differ from what the share of the samples gives, to make steps equal."""


def shrinks_batches(config: TrainConfig) -> bool:
    """Whether pruned epochs have as many steps as on full data, with smaller batches.

    Args:
        config: The run's options; a policy that is none of the library's shrinks steps.

    Returns:
        False for a run on full data, too.
    """
    name = inner_name(config.policy)
    if name == "none" or name not in POLICIES:
        return False
    return (POLICIES[name].shrinks if config.shrink == "auto" else config.shrink) == "batches"


def shrink_option(config: TrainConfig) -> Shrink:
    """What a run's pruner is given as ``shrink``."""
    if not shrinks_batches(config):
        return "steps"
    return ShrinkBatches(config.least_batch, config.batch_multiple)


def smaller_batch(
    config: TrainConfig, epochs: float, num_replicas: int, num_samples: int = 0
) -> tuple[int, int]:
    """The batch with which fewer epochs on full data have as many steps as all of them.

    Args:
        config: The options of the run with all its epochs.
        epochs: The number of epochs, at most as many.
        num_replicas: The ranks, which share a batch equally.
        num_samples: N, by which steps are counted, short batches among them; where it is 0 the batch is
            smaller by the factor by which the run is shorter, but for rounding. No epoch ends in a batch
            of a single sample, if none does on full data and another size is near.

    Returns:
        The batch size, and the micro batch of ``--task tuning``: the whole batch where what is asked for
        would not divide it.
    """
    micro_batch = config.tuning.micro_batch
    exact, multiple = config.batch_size * epochs / config.epochs, max(num_replicas, micro_batch)
    if exact < multiple or multiple % num_replicas:
        multiple, micro_batch = num_replicas, 0
    least = -(-SMALLEST_BATCH // multiple)
    units = max(least, round(exact / multiple))
    if not num_samples:
        return units * multiple, micro_batch
    wanted = _num_steps(config, config.epochs, config.batch_size, num_samples)
    slack = math.ceil(SLACK * units)
    sizes = [multiple * near for near in range(max(least, units - slack), units + slack + 1)]

    def gap(size: int) -> tuple[bool, int, float]:
        steps = _num_steps(config, epochs, size, num_samples)
        return ends_in_one(size), abs(steps - wanted), abs(size - exact)

    def ends_in_one(size: int) -> bool:
        full, smaller = num_samples % config.batch_size, num_samples % size
        return smaller == 1 and full != 1 and not config.drop_last

    return min((size for size in sizes if size <= config.batch_size), key=gap), micro_batch


def _num_steps(config: TrainConfig, epochs: float, batch_size: int, num_samples: int) -> int:
    """The steps of a run on full data."""
    plan = RunPlan(num_samples, NoPruning(), epochs, None, 1.0, 0, None)
    plan.set_batching(Batching(min(batch_size, num_samples), config.drop_last))
    return plan.full_steps
