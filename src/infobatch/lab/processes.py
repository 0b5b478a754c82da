"""One process, or several ranks that ``torchrun`` or ``accelerate launch`` started for one model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from infobatch.distributed import Replicas

T = TypeVar("T")


@contextmanager
def joined() -> Iterator[Replicas]:
    """Join the ranks that a launcher started, as its environment variables say; alone without one.

    Returns:
        A context manager that gives this process's place among the ranks.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or dist.is_initialized():
        yield replicas()
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        backend = "cpu:gloo,cuda:nccl"  # objects and counts travel over gloo, without the device
    dist.init_process_group(backend)
    try:
        yield replicas()
    finally:
        dist.destroy_process_group()


def replicas() -> Replicas:
    """The place of this process among the ranks that train one model."""
    if dist.is_available() and dist.is_initialized():
        return Replicas(dist.get_rank(), dist.get_world_size())
    return Replicas()


def agree(decide: Callable[[], T]) -> T:
    """Let the first rank decide for all; every rank has to call this.

    Args:
        decide: Called on the first rank alone; what it returns has to be picklable.

    Returns:
        What ``decide`` returned, on every rank.

    Raises:
        Exception: What ``decide`` raised, on every rank.
    """
    if replicas().num_replicas == 1:
        return decide()
    outcome: list[Any] = [None, None]
    if replicas().rank == 0:
        try:
            outcome[0] = decide()
        except (Exception, KeyboardInterrupt) as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result


def total(values: Tensor) -> Tensor:
    """Add up a tensor over all ranks; waits for the device.

    Args:
        values: This rank's values, of any shape.

    Returns:
        The sum over all ranks, of the same shape, on the host.
    """
    values = values.cpu()
    if replicas().num_replicas > 1:
        dist.all_reduce(values)
    return values
