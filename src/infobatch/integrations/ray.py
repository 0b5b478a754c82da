"""Ray Train: a loader whose sampler Ray leaves alone, its batches on the worker's device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader

from infobatch.integrations.refusals import check_processes
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
    """A loader of ``(indices, batch)`` for a worker of Ray Train.

    Each worker has its share of the selection, which must not be replaced by a share of all samples:
    Ray's ``prepare_data_loader``, which this function calls, leaves the loader's sampler as it is.
    Iterate it once in each epoch of ``pruner.epochs()``.

    Args:
        pruner: The run's pruner, made in the function that Ray runs on each worker.
        batch_size: Samples of a batch on each worker.
        collate_fn: Makes the batch of a list of samples, as for a DataLoader; by default PyTorch's own.
        drop_last: Whether a last batch that is not full is left out.
        **options: Further options of a DataLoader, such as ``num_workers``.

    Returns:
        A loader whose batches are on the worker's device and whose indices, int64 (B,), stay on the
        host, where :meth:`DynamicPruner.update` reads them.

    Raises:
        ValueError: If the pruner was made for another number of workers than Ray has.
    """
    check_processes(
        pruner,
        get_context().get_world_size(),
        "Ray",
        "make the DynamicPruner in the function that Ray runs on each worker",
    )
    loader = pruner.loader(batch_size, collate_fn=collate_fn, drop_last=drop_last, **options)
    return prepare_data_loader(loader, add_dist_sampler=False)
