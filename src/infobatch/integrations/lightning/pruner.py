"""The pruner of a fit: a Trainer's length and processes, schedules that Lightning accepts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from infobatch.integrations.lightning.installed import accumulated_in
from infobatch.integrations.lightning.loader import PrunedLoader
from infobatch.lr import ProgressScheduler
from infobatch.policies import NoPruning
from infobatch.pruner import DynamicPruner


class LightningScheduler(ProgressScheduler, LRScheduler):  # type: ignore[misc, override]
    """A schedule driven by progress that Lightning takes for one of PyTorch's."""


class LightningPruner(DynamicPruner):
    """A module's pruner, which the module's copies (averaged weights) share, dataset and all."""

    _schedule_class = LightningScheduler

    def __deepcopy__(self, memo: dict[int, Any]) -> LightningPruner:
        return self


def make_pruner(trainer: Any, loader: PrunedLoader, options: Mapping[str, Any]) -> LightningPruner:
    """The pruner of a fit that begins, with the Trainer's length and processes."""
    replicas = _replicas(trainer)
    options = {**options, **replicas, **_run_length(trainer, loader, replicas)}
    if trainer.fast_dev_run:
        options["target"] = None if options.get("target") is None else 0.0  # it is the whole run's
    return LightningPruner(loader.dataset, **options)


def _replicas(trainer: Any) -> dict[str, Any]:
    """The rank of this process among those that share the data, and their number."""
    known = trainer.distributed_sampler_kwargs or {"rank": 0, "num_replicas": 1}
    return {name: known[name] for name in ("rank", "num_replicas")}


def _run_length(trainer: Any, loader: PrunedLoader, replicas: dict[str, Any]) -> dict[str, int]:
    """The run's length on full data, in epochs or, where ``max_steps`` ends it sooner, in batches."""
    epochs, left = trainer.max_epochs, trainer.max_steps
    if trainer.fast_dev_run or left < 0:
        return {"num_epochs": epochs}
    one_epoch = DynamicPruner(loader.dataset, 1, policy=NoPruning(), **replicas)
    one_epoch.loader(**loader.options)
    limit, num_batches = trainer.limit_train_batches, one_epoch.full_steps
    is_limited = isinstance(limit, int) and 0 < limit < num_batches  # at 0 nothing is trained at all
    num_batches = limit if is_limited else num_batches
    for epoch in count():
        num_accumulated = accumulated_in(trainer, epoch)
        num_steps = -(-num_batches // num_accumulated)
        if epoch == epochs:
            return {"num_epochs": epochs}
        if left < num_steps:
            break
        left -= num_steps
    if is_limited:  # whose epochs are whole ones here, of which not all is trained
        return {"num_epochs": epoch + (left > 0)}
    return {"max_steps": epoch * num_batches + left * num_accumulated}
