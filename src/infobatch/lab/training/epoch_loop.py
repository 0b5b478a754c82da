"""The loop over epochs and batches, which trains runs and the networks that score samples for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch.utils.data import DataLoader

from infobatch import DynamicPruner
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data.feed import loader_options
from infobatch.lab.tasks.base import Task
from infobatch.scores.columns import IndexArray


def train_epochs(
    pruner: DynamicPruner,
    loader: Iterable[Any],
    *,
    begin: Callable[[int], None],
    step: Callable[[IndexArray, Any], None],
    pause: Callable[[], None],
    end: Callable[[int], None],
    clock: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Train every epoch that is left of a run, batch by batch.

    Args:
        pruner: Says which epochs are left.
        loader: Gives the indices and the batch of each step.
        begin: Called with an epoch's number before its first batch is fetched.
        step: Trains on a batch, given its indices and what the collate function makes of it.
        pause: Called after each step.
        end: Called with an epoch's number after its last step.
        clock: Makes a context that times what happens inside; it holds all but ``pause`` and ``end``.
    """
    with clock():
        epochs = pruner.epochs()
    while True:
        with clock():
            epoch = next(epochs, None)
        if epoch is None:
            return
        with clock():
            begin(epoch)
            batches = iter(loader)
        while True:
            with clock():
                batch = next(batches, None)
                if batch is not None:
                    step(*batch)
            if batch is None:
                break
            pause()
        end(epoch)


def make_loader(config: TrainConfig, task: Task, pruner: DynamicPruner) -> DataLoader[Any]:
    """Make the loader of a task's training samples.

    Args:
        config: The options of what is trained.
        task: Brings the samples to the device.
        pruner: Selects them.

    Returns:
        A loader of this rank's indices and batches.
    """
    loader: DataLoader[Any] = pruner.loader(
        config.batch_size // pruner.replicas.num_replicas,
        drop_last=config.drop_last,
        collate_fn=task.feed.collate,
        persistent_workers=task.feed.num_workers > 0,
        **loader_options(task.feed.num_workers, task.device),
    )
    return loader
