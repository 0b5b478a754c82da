"""Ray Train: a loader whose sampler Ray leaves alone, its batches on the worker's device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, DistributedSampler

from infobatch.loading.sampler import FilteredSampler, PrunedSampler
from infobatch.pruner import DynamicPruner

try:
    from ray.train import get_context
    from ray.train.torch import prepare_data_loader
except ImportError as error:
    raise ImportError(
        "infobatch.integrations.ray needs Ray Train: pip install 'infobatch[ray]'"
    ) from error


def pruned_loader(
    pruner: DynamicPruner,
    batch_size: int,
    *,
    collate_fn: Callable[[Any], Any] | None = None,
    drop_last: bool = False,
    **options: Any,
) -> DataLoader[Any]:
    """A loader of ``(samples, batch)`` for a worker of Ray Train.

    ``batch_size``: of each worker. ``options``: those of DataLoader. Batches come on the worker's
    device, the indices on the host. Each worker has its share of the selection, which must not be
    replaced by one of all samples: ``prepare_data_loader`` leaves this loader's sampler as it is.
    """
    check_workers(pruner)
    loader = pruner.loader(
        batch_size,
        collate_fn=collate_fn,
        drop_last=drop_last,
        loader_class=partial(_make_loader, pruner),
        **options,
    )
    return prepare_data_loader(loader, add_dist_sampler=False)


class ShareSampler(DistributedSampler[int]):
    """A sampler of one worker's share, of the only kind that Ray does not replace."""

    def __init__(self, run: DynamicPruner, sampler: PrunedSampler | FilteredSampler) -> None:
        super().__init__(run.dataset, run.replicas.num_replicas, run.replicas.rank)  # type: ignore[arg-type]
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        return iter(self.sampler)


def check_workers(pruner: DynamicPruner) -> None:
    num_workers = get_context().get_world_size()
    if pruner.replicas.num_replicas != num_workers:
        raise ValueError(
            f"the pruner was made for {pruner.replicas.num_replicas} workers and Ray has {num_workers}, "
            "so that each would train another's samples too; make the DynamicPruner in the function "
            "that Ray runs on each worker"
        )


def _make_loader(run: DynamicPruner, *args: Any, **options: Any) -> DataLoader[Any]:
    if "sampler" in options:
        options["sampler"] = ShareSampler(run, options["sampler"])
    return DataLoader(*args, **options)
