"""Accelerate: a loader that is shared out already, and the pruner's state in its checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from infobatch.pruner import DynamicPruner

try:
    from accelerate import Accelerator
    from accelerate.data_loader import DataLoaderShard
except ImportError as error:
    raise ImportError(
        "infobatch.integrations.accelerate needs accelerate: pip install 'infobatch[accelerate]'"
    ) from error


def pruned_loader(
    accelerator: Accelerator,
    pruner: DynamicPruner,
    batch_size: int,
    *,
    collate_fn: Callable[[Any], Any] | None = None,
    drop_last: bool = False,
    **options: Any,
) -> DataLoaderShard:
    """A loader of ``(samples, batch)`` for ``accelerator``, whose checkpoints then hold the pruner.

    ``batch_size``: of each process. ``options``: those of DataLoader. Batches come on the accelerator's
    device, the indices on the host. Each process has its share of the selection, so that ``prepare()``
    must not share it out again; it leaves this loader as it is.
    """
    check_processes(accelerator, pruner)
    placed = accelerator.device if accelerator.device_placement else None
    make = partial(PrunedShard, pruner, device=placed, _non_blocking=accelerator.non_blocking)
    loader = pruner.loader(
        batch_size, collate_fn=collate_fn, drop_last=drop_last, loader_class=make, **options
    )
    loader._is_accelerate_prepared = True
    if not any(known is pruner for known in accelerator._custom_objects):
        accelerator.register_for_checkpointing(pruner)
    return loader


class PrunedShard(DataLoaderShard):
    """Accelerate's loader of one process; begins no epoch by being iterated."""

    def __init__(self, run: DynamicPruner, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._run = run

    def __iter__(self) -> Iterator[Any]:
        self.iteration = self._run.epoch  # otherwise counted, from 0 in a resumed run too
        return super().__iter__()


def check_processes(accelerator: Accelerator, pruner: DynamicPruner) -> None:
    if pruner.replicas.num_replicas != accelerator.num_processes:
        raise ValueError(
            f"the pruner was made for {pruner.replicas.num_replicas} processes and the accelerator has "
            f"{accelerator.num_processes}, so that each would train another's samples too; make the "
            "Accelerator before the DynamicPruner"
        )
