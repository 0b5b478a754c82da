"""Replicated scores: every rank holds all of them, and one collective an epoch keeps them equal."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist

from infobatch.batching import Replicas
from infobatch.scores import ScoreTable


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

    A single all-reduce, to be called on all ranks. Each sample takes the values of the ranks that
    recorded it, bitwise equal everywhere; merging twice changes nothing.
    """
    scored = torch.from_numpy(recorded) & ~scores["last_loss"].isnan()
    parts = [torch.where(scored, scores[name].float(), 0.0) for name in scores.columns]
    packed = torch.stack([*parts, scored.float(), torch.from_numpy(recorded).float()])
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    packed = packed.to(device)
    dist.all_reduce(packed)
    *sums, num_scored, num_recorded = packed.cpu()
    for name, total in zip(scores.columns, sums, strict=True):
        column = scores[name]
        column.copy_(torch.where(num_scored > 0, total / num_scored, column))
    union: np.ndarray = (num_recorded > 0).numpy()
    return union
