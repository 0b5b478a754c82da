"""Ranks that train equally many batches of a stream, of which they have different numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from infobatch.distributed import collective_device, has_process_group

T = TypeVar("T")


def in_step(batches: Iterable[T]) -> Iterator[T]:
    """Give batches until the first rank has no more, so that all ranks train equally many.

    Before each batch an all-reduce of one number asks the other ranks. Samples that others have left
    over keep their scores.

    Args:
        batches: The batches of this rank.
    """
    if not has_process_group():
        yield from batches
        return
    end: Any = object()
    iterator = iter(batches)
    while True:
        batch = next(iterator, end)
        has_one = torch.tensor(int(batch is not end), device=collective_device())
        dist.all_reduce(has_one, dist.ReduceOp.MIN)
        if not has_one:
            return
        yield batch
