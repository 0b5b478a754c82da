"""Accelerate: a loader that is shared out already, and the pruner's state in its checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from infobatch.integrations.refusals import check_processes
from infobatch.journal import EpochLog
from infobatch.layouts import Replicated
from infobatch.pruner import DynamicPruner

try:
    from accelerate import Accelerator
    from accelerate.data_loader import DataLoaderShard
except ImportError as error:
    raise ImportError(
        "infobatch.integrations.accelerate needs accelerate: pip install 'infobatch[accelerate]'"
    ) from error


ONE_CLOCK = ("wandb", "trackio", "comet_ml", "swanlab")
"""Trackers whose steps must not go back, whatever is logged: ours have no step of their own there."""


def pruned_loader(
    accelerator: Accelerator,
    pruner: DynamicPruner,
    batch_size: int,
    *,
    collate_fn: Callable[[Any], Any] | None = None,
    drop_last: bool = False,
    **options: Any,
) -> DataLoaderShard:
    """A loader of ``(indices, batch)`` for ``accelerator``, whose checkpoints then hold the pruner.

    Each process has its share of the selection, so that ``accelerator.prepare`` must not share it out
    again; it leaves this loader as it is. Iterate it once in each epoch of ``pruner.epochs()``. Its
    trackers, if it has any, are told of each epoch: see :meth:`DynamicPruner.log_to`.

    Args:
        accelerator: Made before the pruner, so that the pruner knows the processes.
        pruner: The run's pruner; it is registered with the accelerator for checkpointing, once.
        batch_size: Samples of a batch on each process.
        collate_fn: Makes the batch of a list of samples, as for a DataLoader; by default PyTorch's own.
        drop_last: Whether a last batch that is not full is left out.
        **options: Further options of a DataLoader, such as ``num_workers``.

    Returns:
        A loader whose batches are on the accelerator's device and whose indices, int64 (B,), stay on the
        host, where :meth:`DynamicPruner.update` reads them.

    Raises:
        ValueError: If the pruner was made for another number of processes than the accelerator has, or
            has sharded scores on several.
    """
    check_processes(
        pruner,
        accelerator.num_processes,
        "the accelerator",
        "make the Accelerator before the DynamicPruner",
    )
    _check_layout(pruner)
    placed = accelerator.device if accelerator.device_placement else None

    def make(*arguments: Any, **its_options: Any) -> PrunedShard:  # no class: it does not skip by itself
        its_options |= {"device": placed, "_non_blocking": accelerator.non_blocking}
        return PrunedShard(pruner, *arguments, **its_options)

    loader = pruner.loader(
        batch_size, collate_fn=collate_fn, drop_last=drop_last, loader_class=make, **options
    )
    loader._is_accelerate_prepared = True
    if not any(known is pruner for known in accelerator._custom_objects):
        accelerator.register_for_checkpointing(pruner)
        pruner.log_to(partial(_log, accelerator))
    return loader


def _check_layout(pruner: DynamicPruner) -> None:
    """Refuse a pruner whose processes hold a part of the scores each, of which one alone is saved."""
    if pruner.layout != Replicated.name and pruner.replicas.num_replicas > 1:
        raise ValueError(
            "save_state of Accelerate holds the pruner's state of the first process alone, and with "
            "layout=Sharded() each has its own; make the pruner without it, or take pruner.loader, and "
            "save and load each process's state_dict under its rank"
        )


def _log(accelerator: Accelerator, log: EpochLog) -> None:
    """Log an epoch to the accelerator's trackers."""
    for tracker in accelerator.trackers:
        step = None if tracker.name in ONE_CLOCK else log.epoch
        tracker.log(dict(log.values), step=step)


class PrunedShard(DataLoaderShard):
    """Accelerate's loader of one process; to iterate it begins no epoch."""

    def __init__(self, pruner: DynamicPruner, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._pruner = pruner

    def __iter__(self) -> Iterator[Any]:
        self.iteration = self._pruner.epoch  # otherwise counted, from 0 in a resumed run too
        return super().__iter__()

    def begin(self) -> None:
        """Note that no batch has samples to be cut off, by what would be left over of the dataset."""
        super().begin()
        self.remainder = 0
