"""Replicated scores: every rank holds all of them, and one collective an epoch keeps them equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist

from infobatch.scores.table import ScoreTable

Merge = Callable[[ScoreTable, np.ndarray], np.ndarray]
"""(this rank's scores, which samples it recorded, bool (N,)) -> which samples any rank recorded, after
it has given this rank the scores of the others."""

Reduce = Callable[[torch.Tensor], torch.Tensor]
"""(a tensor of this rank, on the host) -> its sum over all ranks, on the host."""


def find_replicas(rank: int | None, num_replicas: int | None) -> Replicas:
    """The given coordinates, else those of the default process group, else a single process."""
    if (rank is None) != (num_replicas is None):
        raise ValueError(
            f"rank is {rank} and num_replicas is {num_replicas}; give both, or neither to take them "
            "from torch.distributed"
        )
    if rank is not None and num_replicas is not None:
        return Replicas(rank, num_replicas)
    if has_process_group():
        return Replicas(dist.get_rank(), dist.get_world_size())
    return Replicas(assumed=True)


def check_alone(replicas: Replicas) -> None:
    """Refuse to train all samples on each of several ranks."""
    if replicas.assumed and has_process_group() and dist.get_world_size() > 1:
        raise RuntimeError(
            "the pruner was made before torch.distributed was initialised, so that each of the "
            f"{dist.get_world_size()} ranks would train all of its samples; call init_process_group "
            "first, or give DynamicPruner rank= and num_replicas="
        )


def has_process_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def collective_device() -> str:
    """Where a tensor must lie for the default process group to reduce it."""
    return "cuda" if dist.get_backend() == "nccl" else "cpu"


def merge_scores(scores: ScoreTable, recorded: np.ndarray) -> np.ndarray:
    """Give every rank the scores that any rank recorded; returns the union of ``recorded`` (N,).

    ``recorded``: what this rank trained, or looked at though it was left out.

    A single all-reduce, to be called on all ranks. A sample takes the values of the rank that recorded
    it, bitwise equal everywhere; merging twice changes nothing.
    """
    if not has_process_group():
        raise RuntimeError(
            "this is one of several replicas, but torch.distributed is not initialised, so that their "
            "scores cannot be merged, and the samples they select would differ from here on. Call "
            "torch.distributed.init_process_group first, or share them by a function of your own: "
            "layout=Replicated(merge=...)"
        )
    nothing = -torch.inf
    scored = torch.from_numpy(recorded) & ~scores["last_loss"].isnan()
    rows = [row for name in scores.columns for row in scores[name].view(len(scores), -1).T]
    parts = [torch.where(scored & ~row.isnan(), row.float(), nothing) for row in rows]
    packed = torch.stack([*parts, torch.from_numpy(recorded).float()])
    packed = packed.to(collective_device())
    dist.all_reduce(packed, dist.ReduceOp.MAX)
    *merged, union = packed.cpu()
    for row, values in zip(rows, merged, strict=True):
        row.copy_(torch.where(values > nothing, values, row))  # a view of its column
    recorded_by_any: np.ndarray = (union > 0).numpy()
    return recorded_by_any


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """The sum over the default process group: a :data:`Reduce`."""
    if not has_process_group():
        raise RuntimeError(
            "this is one of several replicas, but torch.distributed is not initialised, so that nothing "
            "can be summed over them. Call torch.distributed.init_process_group first, or give Sharded "
            "a reduce= of your own"
        )
    return sum_over_group(values, None)


def sum_over_group(values: torch.Tensor, group: dist.ProcessGroup | None) -> torch.Tensor:
    """The sum over a process group, such as the data-parallel one of a device mesh."""
    device = "cuda" if dist.get_backend(group) == "nccl" else "cpu"
    values = values.to(device)
    dist.all_reduce(values, group=group)
    return values.cpu()


def check_world(num_replicas: int) -> None:
    """Refuse to sum over a process group in which ranks share their data-parallel coordinates."""
    if num_replicas > 1 and has_process_group() and dist.get_world_size() != num_replicas:
        raise ValueError(
            f"num_replicas is {num_replicas}, but the process group has {dist.get_world_size()} ranks, "
            "and a sum over all of them would count samples more than once; give Sharded a reduce= that "
            "sums over the data-parallel group (sum_over_group)"
        )


def check_agreement(facts: Mapping[str, int]) -> None:
    """Raise ``RuntimeError`` on all ranks, naming them, if ``facts`` differ between any two.

    One all-gather of a number for each fact, so that ranks whose tensors or batches would not match
    stop here, for in a later collective they would hang or mix up their numbers. ``"selection"``, the
    last of them, is a hash; it has no value to show, and is told of only if all others agree. Nothing
    is compared without a process group.
    """
    if not has_process_group():
        return
    mine = torch.tensor([value & (2**63 - 1) for value in facts.values()], device=collective_device())
    gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, mine)
    by_rank = torch.stack(gathered).T.tolist()
    differences = {
        name: _ranks_by_value(values)
        for name, values in zip(facts, by_rank, strict=True)
        if len(set(values)) > 1
    }
    groups = differences.pop("selection", None)
    if differences:
        told = "; ".join(
            f"{name} is "
            + " and ".join(f"{value} on {_ranks(ranks)}" for value, ranks in by_value.items())
            for name, by_value in differences.items()
        )
        raise RuntimeError(
            f"the ranks are not about to train the same epoch: {told}. Give all ranks the same dataset, "
            "options and checkpoint, and begin each epoch on all of them"
        )
    if groups:
        told = ", ".join(f"{_ranks(ranks)} one" for ranks in groups.values())
        raise RuntimeError(
            f"the ranks drew different selections for epoch {facts.get('the epoch')} ({told}), so they "
            "would train different samples and scores would be lost. Give all ranks the same policy, "
            "target, delta, warmup_epochs and checkpoint, and the same version of PyTorch"
        )


def _ranks_by_value(values: list[int]) -> dict[int, list[int]]:
    by_value: dict[int, list[int]] = defaultdict(list)
    for rank, value in enumerate(values):
        by_value[value].append(rank)
    return by_value


def _ranks(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:8])) + ", ..." * (len(ranks) > 8)
    return f"rank {shown}" if len(ranks) == 1 else f"ranks {shown}"


@dataclass(frozen=True)
class Replicas:
    """Where this process stands among those that train one model together.

    ``assumed``: whether it was taken to be alone, for there was no process group yet.
    """

    rank: int = 0
    num_replicas: int = 1
    assumed: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.num_replicas:
            raise ValueError(f"rank is {self.rank}; it must lie in 0..{self.num_replicas - 1}")
