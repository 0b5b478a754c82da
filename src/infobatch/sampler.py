"""The epoch's order, its share for each rank, and its replay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from infobatch.batching import Batching, Replicas
from infobatch.checks import foreign_sample
from infobatch.scores import FloatArray, IndexArray
from infobatch.seeding import epoch_generator
from infobatch.selection import Selection


def epoch_order(seed: int, epoch: int, selection: Selection) -> Tensor:
    """The selected samples in the order they are trained, int64 (num_selected,).

    One permutation of all N samples, filtered: with nothing left out it is the order of
    ``RandomSampler(dataset, generator=epoch_generator(seed, epoch))``.
    """
    generator = epoch_generator(seed, epoch)
    permutation = torch.randperm(len(selection.weights), generator=generator)
    if selection.num_selected == len(permutation):
        return permutation
    return permutation[(selection.weights > 0)[permutation]]


def rank_share(order: Tensor, replicas: Replicas) -> Tensor:
    """Every ``num_replicas``-th sample of ``order``, equally many on each rank.

    A last round that does not divide is filled with repeats, written ``~index`` (negative): they
    have weight 0 and are not recorded.
    """
    if replicas.num_replicas == 1:
        return order
    missing = -len(order) % replicas.num_replicas
    if missing and len(order):
        # From the end, so that a run resumed within the epoch has the same ones.
        order = torch.cat([order, ~order.flip(0)[torch.arange(missing) % len(order)]])
    return order[replicas.rank :: replicas.num_replicas]


@dataclass(frozen=True)
class LastRound:
    """A rank's samples in a last round that the ranks cannot share equally, and how to scale its mean.

    The ranks' means are averaged; scaled so, they add up to the mean over the round's real samples.
    """

    members: frozenset[int] = frozenset()
    scale: float = 1.0

    @classmethod
    def of(cls, order: Tensor, replicas: Replicas, batching: Batching | None) -> LastRound:
        if batching is None or batching.drop_last or batching.own_order:
            return cls()
        num_real = len(order) % int(batching.round_size)
        num_local = -(-num_real // replicas.num_replicas)
        num_slots = num_local * replicas.num_replicas
        if num_slots == num_real:
            return cls()
        members = rank_share(order, replicas)[-num_local:].tolist()
        return cls(frozenset(members), num_slots / num_real)


class Epoch:
    """One epoch under way: its selection and order, and which samples have been recorded.

    ``num_trained``: the length of its order, less than the selection where the run ends within the
    epoch or the loader drops a last short batch. ``resume_order``: what was still to be trained when it
    began or was resumed, on all ranks; ``share``: this rank's part of that. It lasts 13 bytes a sample:
    weights (4), order (at most 8), recorded (1).
    """

    def __init__(
        self,
        number: int,
        selection: Selection,
        seed: int,
        num_trained: int,
        replicas: Replicas | None = None,
        recorded: Tensor | None = None,
    ) -> None:
        self.number = number
        self.selection = selection
        self.order = epoch_order(seed, number, selection)[:num_trained]
        self.weights: FloatArray = selection.weights.numpy()
        num_samples = len(self.weights)
        self.recorded = np.zeros(num_samples, bool) if recorded is None else recorded.numpy().copy()
        self.num_recorded = int(self.recorded.sum())
        self.replicas = replicas or Replicas()
        self.resume_order = self.order
        if self.num_recorded:
            self.resume_order = self.order[~torch.from_numpy(self.recorded)[self.order]]
        self.share = rank_share(self.resume_order, self.replicas)
        self._num_resumed = self.num_recorded
        self._num_seen = 0

    @property
    def resumed_at_end(self) -> bool:
        """Whether a run was resumed when this epoch had been recorded whole."""
        return len(self.resume_order) == 0

    @property
    def remaining(self) -> Tensor:
        """Of this rank's share, what has not been recorded, and the repeats."""
        if self._num_seen == 0:
            return self.share
        samples = torch.where(self.share < 0, ~self.share, self.share)
        return self.share[(self.share < 0) | ~torch.from_numpy(self.recorded)[samples]]

    @property
    def finished(self) -> bool:
        """Whether all of this rank's share has been recorded."""
        return self._num_seen >= len(self.share) and not bool((self.remaining >= 0).any())

    @property
    def selected(self) -> np.ndarray:
        """Which samples this epoch trains on, bool (N,)."""
        selected = np.zeros(len(self.weights), bool)
        selected[self.order.numpy()] = True
        return selected

    @property
    def done(self) -> float:
        """The part of the epoch that all ranks together have recorded, in [0, 1]; equal on each."""
        seen = self._num_resumed + self._num_seen * self.replicas.num_replicas
        return min(1.0, seen / len(self.order)) if len(self.order) else 1.0

    def weights_of(self, indices: IndexArray) -> FloatArray:
        """The weights of samples drawn in this epoch, float32 (B,); 0 for a repeat."""
        if self.replicas.num_replicas > 1 and np.minimum.reduce(indices, initial=0) < 0:
            real = indices >= 0
            weights = np.zeros(len(indices), dtype=np.float32)
            weights[real] = self.weights_of(indices[real])
            return weights
        # As unsigned numbers negative ones are too large: a single look, for this is in every step.
        if np.maximum.reduce(indices.view(np.uint64), initial=0) < len(self.weights):
            weights = self.weights[indices]
            if np.count_nonzero(weights) == len(weights):
                return weights
        raise foreign_sample(self._first_foreign(indices), self.number, len(self.weights))

    def _first_foreign(self, indices: IndexArray) -> int:
        foreign = (indices < 0) | (indices >= len(self.weights))
        foreign[~foreign] = self.weights[indices[~foreign]] == 0
        return int(indices[foreign][0])

    def record(self, indices: IndexArray, num_repeats: int = 0) -> None:
        """Note that the losses of ``indices``, and of some repeats, have been recorded."""
        num_new = len(indices) - int(np.count_nonzero(self.recorded[indices]))
        self.recorded[indices] = True
        self.num_recorded += num_new
        self._num_seen += num_new + num_repeats

    def merge(self, recorded: np.ndarray) -> None:
        """Take over what all ranks together have recorded."""
        self.recorded |= recorded
        self.num_recorded = int(self.recorded.sum())


class HasEpoch(Protocol):
    """What a sampler needs of a pruner."""

    replicas: Replicas

    @property
    def current(self) -> Epoch: ...

    def set_epoch(self, epoch: int) -> None: ...

    def seed_workers(self) -> None: ...


class PrunedSampler(Sampler[int]):
    """The samples of the current epoch still to be trained on this rank, in order.

    Iterating has no side effect. It starts after what has been recorded, unless ``resumes`` is
    false: then it gives the whole epoch, for a loader that does the skipping (StatefulDataLoader).
    ``len`` is the number left when the epoch began or was resumed.
    """

    def __init__(self, run: HasEpoch, resumes: bool = True) -> None:
        self._run = run
        self._resumes = resumes

    def set_epoch(self, epoch: int) -> None:
        self._run.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._whole_share(self._run.current))

    def __iter__(self) -> Iterator[int]:
        epoch = self._run.current
        self._run.seed_workers()
        if self._resumes:
            refuse_finished(epoch)
            return iter(epoch.remaining.tolist())
        if not epoch.resumed_at_end:
            refuse_finished(epoch)
        return iter(self._whole_share(epoch).tolist())

    def _whole_share(self, epoch: Epoch) -> Tensor:
        return epoch.share if self._resumes else rank_share(epoch.order, epoch.replicas)


class FilteredSampler(Sampler[int]):
    """Your own sampler, without the samples left out of the epoch or recorded in it already.

    It has no length: how many of its indices are selected is known only by drawing them.
    """

    def __init__(self, run: HasEpoch, sampler: Iterable[int]) -> None:
        self._run = run
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        self._run.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        epoch = self._run.current
        self._run.seed_workers()
        refuse_finished(epoch)
        wanted = epoch.selected & ~epoch.recorded
        return (int(index) for index in self.sampler if wanted[index])


class FilteredBatchSampler(Sampler[list[int]]):
    """Your own batch sampler, its batches without the samples left out and topped up again.

    The selected samples of successive batches are pooled until they make a batch as large as yours
    was, so that an epoch has fewer steps, not smaller ones. ``bucket`` maps an index to what its
    batch mates must share (a length class, say): each bucket has its own pool. Pools that never
    fill come last as short batches.
    """

    def __init__(
        self,
        run: HasEpoch,
        batch_sampler: Iterable[Sequence[int]],
        bucket: Callable[[int], Hashable] | None = None,
    ) -> None:
        self._run = run
        self.batch_sampler = batch_sampler
        self._bucket = bucket or (lambda index: None)

    def set_epoch(self, epoch: int) -> None:
        self._run.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self._run.current
        self._run.seed_workers()
        refuse_finished(epoch)
        recorded = epoch.recorded.copy()
        pooled = self._pooled(epoch.selected)
        rest = ([index for index in batch if not recorded[index]] for batch in pooled)
        return (batch for batch in rest if batch)

    def _pooled(self, selected: np.ndarray) -> Iterator[list[int]]:
        pools: defaultdict[Hashable, list[int]] = defaultdict(list)
        for batch in self.batch_sampler:
            for index in batch:
                if selected[index]:
                    pool = pools[self._bucket(index)]
                    pool.append(int(index))
                    if len(pool) >= len(batch):
                        yield pool[:]
                        pool.clear()
        for pool in pools.values():
            if pool:
                yield pool


def refuse_finished(epoch: Epoch) -> None:
    if epoch.finished and len(epoch.order):
        raise RuntimeError(
            f"epoch {epoch.number} is finished: all of its {len(epoch.order):,} samples have been "
            "recorded. Begin the next one, with `for epoch in pruner.epochs():` or "
            f"`pruner.set_epoch({epoch.number + 1})`"
        )
