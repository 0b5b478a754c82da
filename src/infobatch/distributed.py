"""Ranks that train one model together: the place of each, and what they tell one another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np
import torch
import torch.distributed as dist

from infobatch.scores.columns import CLOCK, COLUMNS, DRAW
from infobatch.scores.table import ScoreTable

__all__ = ["Merge", "Reduce", "Replicas", "merge_scores", "sum_over_group", "sum_over_ranks"]

Merge = Callable[[ScoreTable, np.ndarray], np.ndarray]
"""Shares scores among the ranks.

It takes this rank's scores and which samples it recorded, bool (N,). It gives this rank the scores that
others recorded, and returns which samples any rank recorded, bool (N,).
"""

Reduce = Callable[[torch.Tensor], torch.Tensor]
"""Sums a tensor on the host over all ranks; the result is on the host, too."""


@dataclass(frozen=True)
class Replicas:
    """The place of this rank among those that train one model together.

    Args:
        rank: Number of this rank, from 0.
        num_replicas: Number of ranks.
        assumed: Whether this rank was taken to be alone, because there was no process group yet.

    Raises:
        ValueError: If there is no rank, or ``rank`` is not among them.
    """

    rank: int = 0
    num_replicas: int = 1
    assumed: bool = field(default=False, compare=False)

    def share_of(self, num_samples: int) -> int:
        """The samples of each rank where they share ``num_samples`` equally, rounded up."""
        return -(-num_samples // self.num_replicas)

    def __post_init__(self) -> None:
        if not isinstance(self.num_replicas, Integral) or self.num_replicas < 1:
            raise ValueError(
                f"num_replicas is {self.num_replicas!r}; it must be a whole number, at least 1"
            )
        if not isinstance(self.rank, Integral) or not 0 <= self.rank < self.num_replicas:
            raise ValueError(
                f"rank is {self.rank!r}; it must be a whole number in 0..{self.num_replicas - 1}"
            )


def find_replicas(rank: int | None, num_replicas: int | None) -> Replicas:
    """The place that is given, else that in the default process group, else that of a single rank."""
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


class ShareCheck:
    """Tells by the first batches of an epoch whether its loader was shared out a second time.

    Args:
        share: What this rank trains, in order, int64 (n,).
        replicas: The place of this rank.
    """

    def __init__(self, share: np.ndarray, replicas: Replicas) -> None:
        self._share = share
        self._replicas = replicas
        self._places: list[np.ndarray] = []
        # Of the first rank, to which a second sharing out gives the first batch, a single batch that
        # the loop passed over would look the same.
        self._num_batches = 3 if replicas.rank == 0 else 2

    @property
    def is_done(self) -> bool:
        """Whether enough batches were seen to tell."""
        return len(self._places) >= self._num_batches

    def see(self, indices: np.ndarray) -> None:
        """See a batch. ``RuntimeError`` if batches so far are every R-th draw, or every R-th batch."""
        if len(indices) == 0:  # of repeats alone, which tells nothing
            return
        rank, stride = self._replicas.rank, self._replicas.num_replicas
        self._places.append(np.flatnonzero(np.isin(self._share, indices)))
        places = np.concatenate(self._places)
        several = len(places) > len(self._places)  # batches of a single sample are told by their number
        drawn = several and np.array_equal(places, rank + stride * np.arange(len(places)))
        size = len(self._places[0])
        starts = (rank + stride * np.arange(len(self._places))) * size
        in_batches = (starts[:, None] + np.arange(size)).ravel()
        if drawn or (self.is_done and np.array_equal(places, in_batches[: len(places)])):
            what = "samples" if drawn else "batches"
            raise RuntimeError(
                f"rank {rank} trains one of every {stride} of its {what}: the loader was shared out "
                f"among the {stride} ranks a second time, and the others would never be trained. Each "
                "rank's loader has its share already. With Lightning Fabric call setup_dataloaders("
                "loader, use_distributed_sampler=False); with Accelerate do not pass the loader to "
                "prepare(), but use infobatch.integrations.accelerate.pruned_loader"
            )


def check_alone(replicas: Replicas) -> None:
    """Raise ``RuntimeError`` if this rank was taken to be alone, and is one of several."""
    if replicas.assumed and has_process_group() and dist.get_world_size() > 1:
        raise RuntimeError(
            "the pruner was made before torch.distributed was initialized, so that each of the "
            f"{dist.get_world_size()} ranks would train all of its samples; call init_process_group "
            "first, or give DynamicPruner rank= and num_replicas="
        )


def has_process_group() -> bool:
    """Whether torch.distributed has a default process group."""
    return dist.is_available() and dist.is_initialized()


def collective_device(group: dist.ProcessGroup | None = None) -> str:
    """The device on which a process group, by default the default one, reduces a tensor."""
    return "cuda" if dist.get_backend(group) == "nccl" else "cpu"


def merge_scores(scores: ScoreTable, recorded: np.ndarray) -> np.ndarray:
    """Give every rank the scores that any rank recorded: a :data:`Merge`, the default.

    It is a single all-reduce, to be called on all ranks. A sample takes the values of the rank that
    recorded it, bitwise equal everywhere; merging twice changes nothing. Columns of the draw stay: each
    rank made the same draw.

    Args:
        scores: The scores of this rank, which are changed in place.
        recorded: Samples that this rank trained, or left out and observed, bool (N,).

    Returns:
        Samples that any rank recorded, bool (N,).

    Raises:
        RuntimeError: Without a process group.
    """
    if not has_process_group():
        raise RuntimeError(
            "this is one of several ranks, but torch.distributed is not initialized, so that their "
            "scores cannot be merged, and the samples they select would differ from here on. Call "
            "torch.distributed.init_process_group first, or share them by a function of your own: "
            "layout=Replicated(merge=...)"
        )
    nothing = -torch.inf
    mine = torch.from_numpy(recorded)
    scored = mine & ~scores["last_loss"].isnan()
    merging = [name for name in scores.columns if COLUMNS[name].signal != DRAW]  # which are equal
    columns = {name: scores[name].view(len(scores), -1).T for name in merging}
    rows = [(name, row) for name, column in columns.items() for row in column]
    packed = torch.empty(len(rows) + 1, len(scores), dtype=torch.float32)
    for values, (name, row) in zip(packed[:-1], rows, strict=True):
        counts = mine if COLUMNS[name].signal == CLOCK else scored  # those without a score, too
        values.copy_(row).masked_fill_(~counts | row.isnan(), nothing)
    packed[-1] = torch.from_numpy(recorded)
    packed = packed.to(collective_device())
    dist.all_reduce(packed, dist.ReduceOp.MAX)
    *merged, union = packed.cpu().split_with_sizes([*map(len, columns.values()), 1])
    for (name, column), values in zip(columns.items(), merged, strict=True):
        known = torch.where(values > nothing, values, column)
        scores.write(name, known.T.reshape(scores[name].shape))
    recorded_by_any: np.ndarray = (union[0] > 0).numpy()
    return recorded_by_any


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over the default process group: a :data:`Reduce`, the default.

    ``RuntimeError`` without a process group.
    """
    if not has_process_group():
        raise RuntimeError(
            "this is one of several ranks, but torch.distributed is not initialized, so that nothing "
            "can be summed over them. Call torch.distributed.init_process_group first, or give Sharded "
            "a reduce= of your own"
        )
    return sum_over_group(values, None)


def sum_over_group(values: torch.Tensor, group: dist.ProcessGroup | None) -> torch.Tensor:
    """Sum a tensor over a process group, such as the data-parallel one of a device mesh.

    Args:
        values: The tensor of this rank, on any device.
        group: The process group; None for the default one.

    Returns:
        The sum, on the host.
    """
    values = values.to(collective_device(group))
    dist.all_reduce(values, group=group)
    return values.cpu()


def check_world(num_replicas: int) -> None:
    """Raise ``ValueError`` for a process group in which ranks share their place."""
    if num_replicas > 1 and has_process_group() and dist.get_world_size() != num_replicas:
        raise ValueError(
            f"num_replicas is {num_replicas}, but the process group has {dist.get_world_size()} ranks, "
            "and a sum over all of them would count samples more than once; give Sharded a reduce= that "
            "sums over the data-parallel group (sum_over_group)"
        )


def check_agreement(facts: Mapping[str, int]) -> None:
    """Raise ``RuntimeError`` on all ranks, naming them, if ``facts`` differ between any two.

    It gathers a number for each fact. Ranks whose tensors or batches would not match stop here, because
    a later collective would hang or mix up their numbers. ``"selection"``, the last fact, is a hash
    without a value to show; it is reported only if all others agree. Without a process group nothing is
    compared.
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
        differing = "; ".join(
            f"{name} is "
            + " and ".join(f"{value} on {_ranks(ranks)}" for value, ranks in by_value.items())
            for name, by_value in differences.items()
        )
        raise RuntimeError(
            f"the ranks are not about to train the same epoch: {differing}. Give all ranks the same "
            "dataset, options and checkpoint, and begin each epoch on all of them"
        )
    if groups:
        differing = ", ".join(f"{_ranks(ranks)} one" for ranks in groups.values())
        raise RuntimeError(
            f"the ranks drew different selections for epoch {facts.get('the epoch')} ({differing}), so "
            "they would train different samples and scores would be lost. Give all ranks the same "
            "policy, target, delta, warmup_epochs and checkpoint, and the same version of PyTorch"
        )


def _ranks_by_value(values: list[int]) -> dict[int, list[int]]:
    by_value: dict[int, list[int]] = defaultdict(list)
    for rank, value in enumerate(values):
        by_value[value].append(rank)
    return by_value


def _ranks(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:8])) + ", ..." * (len(ranks) > 8)
    return f"rank {shown}" if len(ranks) == 1 else f"ranks {shown}"
