"""Replicated scores: every rank holds all of them, and one collective an epoch keeps them equal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist

from infobatch.batching import Replicas
from infobatch.scores import ScoreTable

Merge = Callable[[ScoreTable, np.ndarray], np.ndarray]
"""(this rank's scores, which samples it recorded, bool (N,)) -> which samples any rank recorded, after
it has given this rank the scores of the others."""


def find_replicas(rank: int | None, num_replicas: int | None) -> Replicas:
    """The given coordinates, else those of the default process group, else a single process."""
    if (rank is None) != (num_replicas is None):
        raise ValueError(
            f"rank is {rank} and num_replicas is {num_replicas}; give both, or neither to take them "
            "from torch.distributed"
        )
    if rank is not None and num_replicas is not None:
        return Replicas(rank, num_replicas)
    if dist.is_available() and dist.is_initialized():
        return Replicas(dist.get_rank(), dist.get_world_size())
    return Replicas()


def merge_scores(scores: ScoreTable, recorded: np.ndarray) -> np.ndarray:
    """Give every rank the scores that any rank recorded; returns the union of ``recorded`` (N,).

    A single all-reduce, to be called on all ranks. A sample takes the values of the rank that recorded
    it, bitwise equal everywhere; merging twice changes nothing.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            "this is one of several replicas, but torch.distributed is not initialised, so that their "
            "scores cannot be merged, and the samples they select would differ from here on. Call "
            "torch.distributed.init_process_group first, or give DynamicPruner a merge= of your own"
        )
    nothing = -torch.inf
    scored = torch.from_numpy(recorded) & ~scores["last_loss"].isnan()
    parts = [torch.where(scored, scores[name].float(), nothing) for name in scores.columns]
    packed = torch.stack([*parts, torch.from_numpy(recorded).float()])
    packed = packed.to("cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(packed, dist.ReduceOp.MAX)
    *merged, union = packed.cpu()
    for name, values in zip(scores.columns, merged, strict=True):
        column = scores[name]
        column.copy_(torch.where(values > nothing, values, column))
    recorded_by_any: np.ndarray = (union > 0).numpy()
    return recorded_by_any
