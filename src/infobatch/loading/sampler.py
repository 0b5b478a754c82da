"""What a DataLoader iterates: the epoch's order, or the user's own without what is left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from infobatch.distributed import Replicas
from infobatch.epoch import Epoch
from infobatch.user_order import OwnDraws, num_draws


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
        return self._run.current.num_draws(self._resumes)

    def __iter__(self) -> Iterator[int]:
        epoch = begin_pass(self._run, self._resumes)
        if epoch.own is not None:
            raise other_order("filters a sampler of yours", "has the library's own order")
        return epoch.draws(self._resumes)


class FilteredSampler(Sampler[int]):
    """Your own sampler, without the samples left out of the epoch or recorded in it already.

    It has no length: how many of its indices are selected is known only by drawing them.
    """

    def __init__(
        self, run: HasEpoch, sampler: Iterable[int], multiple: int = 1, resumes: bool = True
    ) -> None:
        self._run = run
        self.sampler = sampler
        self._multiple = multiple
        self._resumes = resumes

    def set_epoch(self, epoch: int) -> None:
        self._run.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        epoch, own = begin_filtering(self._run, self._resumes)
        is_wanted = own.wanted(epoch.selected, self._resumes)
        share = -(-len(epoch.weights) // epoch.replicas.num_replicas)
        part = own.first_part(self.sampler, num_draws(self.sampler, share))
        wanted = (int(index) for index in part if is_wanted(index))
        # In whole batches where the last short one is dropped, so that it is known which is the last.
        groups = iter(lambda: list(islice(wanted, self._multiple)), [])
        return chain.from_iterable(own.note_end(groups, self._resumes, self._multiple))


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
        batch_sampler: Collection[Sequence[int]],
        bucket: Callable[[int], Hashable] | None = None,
        resumes: bool = True,
    ) -> None:
        self._run = run
        self.batch_sampler = batch_sampler
        self._bucket = bucket or (lambda index: None)
        self._resumes = resumes

    def set_epoch(self, epoch: int) -> None:
        self._run.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, own = begin_filtering(self._run, self._resumes)
        is_wanted = own.wanted(np.ones_like(epoch.recorded), self._resumes)
        part = own.first_part(self.batch_sampler, len(self.batch_sampler))
        # The pools are those of the whole epoch, so that a run resumed within it has the same batches.
        pooled = self._pooled(part, epoch.selected)
        rest = ([index for index in batch if is_wanted(index)] for batch in pooled)
        yield from own.note_end((batch for batch in rest if batch), self._resumes)

    def _pooled(self, batches: Iterable[Sequence[int]], selected: np.ndarray) -> Iterator[list[int]]:
        pools: defaultdict[Hashable, list[int]] = defaultdict(list)
        for batch in batches:
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


def begin_pass(run: HasEpoch, resumes: bool = True) -> Epoch:
    """The epoch that a sampler is about to iterate, unless there is nothing left of it.

    A loader that does the skipping itself (not ``resumes``) may go through an epoch that the run was
    resumed at the end of, to skip it.
    """
    epoch = run.current
    run.seed_workers()
    may_be_finished = epoch.resumed_at_end and not resumes
    if epoch.finished and epoch.num_trained and not may_be_finished:
        raise RuntimeError(
            f"epoch {epoch.number} is finished: all of its {epoch.length:,} samples have been "
            "recorded. Begin the next one, with `for epoch in pruner.epochs():` or "
            f"`pruner.set_epoch({epoch.number + 1})`"
        )
    return epoch


def begin_filtering(run: HasEpoch, resumes: bool) -> tuple[Epoch, OwnDraws]:
    epoch = begin_pass(run, resumes)
    if epoch.own is None:
        raise other_order("has the library's own order", "filters a sampler of yours")
    return epoch, epoch.own


def other_order(last: str, this: str) -> RuntimeError:
    return RuntimeError(
        f"the loader made last {last}, but this one {this}; a run has one order, so make one loader "
        "for a pruner"
    )
