"""What a DataLoader iterates: the epoch's order, or the user's own without what is left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain, islice

import numpy as np
from torch.utils.data import DistributedSampler, Sampler

from infobatch.batching import ShrinkBatches
from infobatch.epoch import Epoch
from infobatch.run import Run
from infobatch.user_order import UserDraws, UserSampler, num_draws


class ShareSampler(DistributedSampler[int]):
    """A sampler of this rank's share: of the kind that frameworks do not share out once more."""

    def __init__(self, run: Run) -> None:
        replicas = run.replicas
        super().__init__(run.dataset, replicas.num_replicas, replicas.rank)  # type: ignore[arg-type]
        self._run = run

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, unless :meth:`DynamicPruner.set_epoch` or ``epochs`` tell of epochs."""
        self._run.follow(epoch)


class PrunedSampler(ShareSampler):
    """The indices of the epoch that are still to be trained on this rank, in order.

    Iterating it changes nothing. Its length is the number left when the epoch began or was resumed.
    Made by :meth:`DynamicPruner.sampler`.

    Args:
        run: The pruner whose epochs it gives.
        resumes: Whether it begins after what has been recorded. False gives the whole epoch, for a
            loader that skips what was trained by itself (StatefulDataLoader).
    """

    def __init__(self, run: Run, resumes: bool = True) -> None:
        super().__init__(run)
        self._resumes = resumes

    def __len__(self) -> int:
        return self._run.current.num_draws(self._resumes)

    def __iter__(self) -> Iterator[int]:
        epoch = begin_pass(self._run, self._resumes)
        if epoch.user_draws is not None:
            raise _other_order("filters a sampler of yours", "has the library's own order")
        return epoch.passed(epoch.draws(self._resumes))


class PrunedBatchSampler(Sampler[list[int]]):
    """The batches of the epoch that are still to be trained on this rank, in order.

    As many as full data has, and smaller where samples are left out. Its length is the number left when
    the epoch began or was resumed. Made by :meth:`DynamicPruner.batch_sampler`.

    Args:
        run: The pruner whose epochs it gives.
        resumes: See :class:`PrunedSampler`.
    """

    def __init__(self, run: Run, resumes: bool = True) -> None:
        self._run = run
        self._resumes = resumes

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, unless :meth:`DynamicPruner.set_epoch` or ``epochs`` tell of epochs."""
        self._run.follow(epoch)

    def __len__(self) -> int:
        return len(self._run.current.batch_ends(self._resumes))

    def __iter__(self) -> Iterator[list[int]]:
        epoch = begin_pass(self._run, self._resumes)
        if epoch.user_draws is not None:
            raise _other_order("filters a sampler of yours", "has the library's own order")
        return epoch.passed(epoch.batches(self._resumes))


class FilteredSampler(ShareSampler):
    """The user's own sampler, without samples that are left out or were recorded before.

    It has no length: how many of its indices are selected is known only by drawing them. Made by
    :meth:`DynamicPruner.filter`.

    Args:
        run: The pruner whose epochs it gives.
        own: The user's sampler of indices.
        batch_size: The indices of a batch.
        drop_last: Whether it leaves out a last batch that is short.
        resumes: See :class:`PrunedSampler`.
    """

    def __init__(
        self,
        run: Run,
        own: UserSampler[int],
        batch_size: int,
        drop_last: bool = False,
        resumes: bool = True,
    ) -> None:
        super().__init__(run)
        self.sampler = own.sampler
        self._own = own
        self._batch_size = batch_size
        self._least = batch_size if drop_last else 1
        self._resumes = resumes

    def __len__(self) -> int:
        raise TypeError(
            f"object of type '{type(self).__name__}' has no len(): how many of the indices are selected "
            "is known only by drawing them"
        )

    def __iter__(self) -> Iterator[int]:
        epoch, draws = _begin_filtering(self._run, self._resumes)
        selected, is_unrecorded = draws.selected, draws.unrecorded(self._resumes)
        share = self._run.replicas.share_of(len(selected))
        items = self._own.items(epoch.number, draws, num_draws(self.sampler, share))
        wanted = (
            int(index)
            for index in draws.counted(items, self._least)
            if selected[index] and is_unrecorded(index)
        )
        groups = iter(lambda: list(islice(wanted, self._batch_size)), [])
        given = chain.from_iterable(
            draws.note_ends(groups, self._resumes, self._least, self._batch_size)
        )
        return epoch.passed(given)


class FilteredBatchSampler(Sampler[list[int]]):
    """The user's own batch sampler, its batches without the samples left out and filled up again.

    The selected samples of successive batches are pooled until they make a batch as large as the user's
    was, so that an epoch has fewer steps, not smaller ones. Pools that never fill come last, as short
    batches. Where batches shrink there are as many as the user's, each smaller by the same part; an
    epoch's indices are then drawn at once. Made by :meth:`DynamicPruner.filter_batches`.

    Args:
        run: The pruner whose epochs it gives.
        own: The user's sampler of batches.
        bucket: Maps an index to what its batch mates must share (a length class, say): each bucket has
            a pool of its own. None for a single pool.
        resumes: See :class:`PrunedSampler`.
    """

    def __init__(
        self,
        run: Run,
        own: UserSampler[Sequence[int]],
        bucket: Callable[[int], Hashable] | None = None,
        resumes: bool = True,
    ) -> None:
        self._run = run
        self._own = own
        self._bucket = bucket or (lambda index: None)
        self._resumes = resumes

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, unless :meth:`DynamicPruner.set_epoch` or ``epochs`` tell of epochs."""
        self._run.follow(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, draws = _begin_filtering(self._run, self._resumes)
        is_unrecorded = draws.unrecorded(self._resumes)
        num_batches = len(self._own.sampler)  # type: ignore[arg-type]
        part = draws.counted_batches(self._own.items(epoch.number, draws, num_batches))
        # The batches are those of the whole epoch, so that a run resumed within it has the same ones.
        shrinks = self._run.plan.shrink is not None and not draws.selected.all()
        form = self._shrunk if shrinks else self._pooled
        batches = form(part, draws.selected)
        rest = ([index for index in batch if is_unrecorded(index)] for batch in batches)
        yield from epoch.passed(draws.note_ends((batch for batch in rest if batch), self._resumes))

    def _pooled(self, batches: Iterable[Sequence[int]], selected: np.ndarray) -> Iterator[list[int]]:
        """Batches of the selected indices alone, as large as the user's."""
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

    def _shrunk(self, batches: Iterable[Sequence[int]], selected: np.ndarray) -> Iterator[list[int]]:
        """As many batches as the user's, of the selected indices alone, smaller by the same part."""
        shrink = self._run.plan.shrink
        assert shrink is not None
        whole = [[int(index) for index in batch] for batch in batches]
        pools: defaultdict[Hashable, list[int]] = defaultdict(list)
        sizes: defaultdict[Hashable, list[int]] = defaultdict(list)  # of the batches of each bucket
        buckets = [self._bucket(batch[0]) for batch in whole if batch]
        for bucket, batch in zip(buckets, filter(None, whole), strict=True):
            sizes[bucket].append(len(batch))
        for batch in whole:
            for index in batch:
                if selected[index]:
                    pools[self._bucket(index)].append(index)
        parts = {
            bucket: iter(_parts(pool, sizes.pop(bucket, [len(pool)]), shrink))
            for bucket, pool in pools.items()
        }
        for bucket in buckets:
            yield from islice(parts.get(bucket, iter(())), 1)
        yield from chain.from_iterable(parts.values())  # of indices whose bucket no batch began with


def _parts(indices: Sequence[int], sizes: Sequence[int], shrink: ShrinkBatches) -> Iterator[list[int]]:
    """Batches of ``indices`` in proportion to ``sizes``; fewer than those where they do not suffice."""
    ends = np.cumsum(sizes)
    units = -(-ends * len(indices) // (ends[-1] * shrink.multiple))
    begin = 0
    for end, size in zip(np.minimum(units * shrink.multiple, len(indices)), sizes, strict=True):
        rest = len(indices) - end
        enough = end - begin >= min(shrink.smallest, size)
        if enough and (rest == 0 or rest >= min(shrink.smallest, sizes[-1])):
            yield list(indices[begin:end])
            begin = end
    if begin < len(indices):
        yield list(indices[begin:])


def begin_pass(run: Run, resumes: bool = True) -> Epoch:
    """The epoch that a sampler is about to iterate. ``RuntimeError`` if nothing is left of it.

    A loader that skips by itself (not ``resumes``) may go through an epoch that the run was resumed at
    the end of, to skip it.
    """
    epoch = run.current
    run.seed_workers()
    may_be_finished = epoch.resumed_at_end and not resumes
    if epoch.given_out and not epoch.finished:
        raise RuntimeError(
            f"epoch {epoch.number} has been given out to its end, but only {epoch.num_done:,} of its "
            f"{epoch.length:,} samples have been recorded when the loader is iterated again, which "
            "would train the rest of it as if it were the next. Either something reads ahead into the "
            "next epoch, which is drawn by what this one records (MultiEpochsDataLoader, for which "
            "persistent_workers=True does the same), or batches go without pruner.update(losses, "
            "indices). Begin each epoch with `for epoch in pruner.epochs():`, and iterate once in it"
        )
    if epoch.finished and epoch.num_trained and not may_be_finished:
        raise RuntimeError(
            f"epoch {epoch.number} is finished: all of its {epoch.length:,} samples have been "
            "recorded. Begin the next one, with `for epoch in pruner.epochs():` or "
            f"`pruner.set_epoch({epoch.number + 1})`"
        )
    return epoch


def _begin_filtering(run: Run, resumes: bool) -> tuple[Epoch, UserDraws]:
    """The epoch that a user's own sampler is about to order, and its draws."""
    epoch = begin_pass(run, resumes)
    if epoch.user_draws is None:
        raise _other_order("has the library's own order", "filters a sampler of yours")
    return epoch, epoch.user_draws


def _other_order(last: str, this: str) -> RuntimeError:
    return RuntimeError(
        f"the loader made last {last}, but this one {this}; a run has one order, so make one loader "
        "for a pruner"
    )
