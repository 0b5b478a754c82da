"""What a DataLoader iterates: the epoch's order, or the user's own without what is left out."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import DistributedSampler, Sampler

from infobatch.batching import Batching
from infobatch.epoch import Epoch
from infobatch.loading.refill import Refill
from infobatch.loading.user_sampler import UserSampler, num_draws
from infobatch.policies import NoPruning
from infobatch.run import Run
from infobatch.user_draws import UserDraws

T = TypeVar("T")


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
        self._batching = run.plan.batching
        self._resumes = resumes

    def __len__(self) -> int:
        return self._run.current.num_draws(self._resumes)

    def __iter__(self) -> Iterator[int]:
        epoch = _begin_own_order(self._run, self._batching, self._resumes)
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
        self._batching = run.plan.batching
        self._resumes = resumes

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, unless :meth:`DynamicPruner.set_epoch` or ``epochs`` tell of epochs."""
        self._run.follow(epoch)

    def __len__(self) -> int:
        return len(self._run.current.batch_ends(self._resumes))

    def __iter__(self) -> Iterator[list[int]]:
        epoch = _begin_own_order(self._run, self._batching, self._resumes)
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
        return chain.from_iterable(self.batches())

    def batches(self, smallest: int = 1) -> Iterator[list[int]]:
        """The indices in batches; of an epoch that leaves some out, the last has ``smallest`` of them.

        If fewer are left for it, the batch before gives it some of its own.
        """
        epoch, draws = _begin_filtering(self._run, self._own, self._resumes)
        selected, is_unrecorded = draws.selected, draws.unrecorded(self._resumes)
        share = self._run.replicas.share_of(len(selected))
        items = some(self._own.items(epoch.number, draws, num_draws(self.sampler, share)), epoch.number)
        drawn = draws.counted(indices_of(items, self.sampler), self._least)
        wanted = (index for index in drawn if selected[index] and is_unrecorded(index))
        groups = iter(lambda: list(islice(wanted, self._batch_size)), [])
        if self._least == 1 and not selected.all():
            groups = filled_up(groups, smallest)
        return epoch.passed(draws.note_ends(groups, self._resumes, self._least, self._batch_size))


class FilteredBatchSampler(Sampler[list[int]]):
    """The user's own batch sampler, its batches without the samples left out and filled up again.

    On full data they are the user's own. Otherwise the selected samples of successive batches are pooled
    until they make a batch as large as the user's was, so that an epoch has fewer steps, not smaller
    ones. Pools that never fill come last, as short batches. Where batches shrink there are as many as
    the user's, each smaller by the same part. In that case, and with buckets or a budget, a pruned
    epoch's indices are drawn at once. Made by :meth:`DynamicPruner.filter_batches`.

    Args:
        run: The pruner whose epochs it gives.
        own: The user's sampler of batches.
        refill: What batches keep of the user's.
        resumes: See :class:`PrunedSampler`.
    """

    def __init__(
        self,
        run: Run,
        own: UserSampler[Sequence[int]],
        refill: Refill,
        resumes: bool = True,
    ) -> None:
        self._run = run
        self._own = own
        self._refill = refill
        self._resumes = resumes

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, unless :meth:`DynamicPruner.set_epoch` or ``epochs`` tell of epochs."""
        self._run.follow(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, draws = _begin_filtering(self._run, self._own, self._resumes)
        is_unrecorded = draws.unrecorded(self._resumes)
        num_batches = len(self._own.sampler)  # type: ignore[arg-type]
        given = some(self._own.items(epoch.number, draws, num_batches), epoch.number)
        items = batches_of(given, self._own.sampler)
        # The batches are those of the whole epoch, so that a run resumed within it has the same ones.
        batches: Iterable[list[int]] = draws.counted_batches(items)
        shrinks = self._run.plan.shrink is not None
        if draws.selected.all() or (self._refill.is_plain and not shrinks):
            batches = self._formed(batches, draws.selected)
        else:
            user_batches = list(batches)
            batches = list(self._formed(user_batches, draws.selected))
            if shrinks:
                draws.spread(batches, epoch.weights_of)
            draws.scale(self._refill.scales(user_batches, batches, len(draws.selected)))
        rest = ([index for index in batch if is_unrecorded(index)] for batch in batches)
        yield from epoch.passed(draws.note_ends((batch for batch in rest if batch), self._resumes))

    def _formed(self, batches: Iterable[list[int]], selected: np.ndarray) -> Iterator[list[int]]:
        """The batches of an epoch: the user's own, or others of the selected indices alone."""
        shrink = self._run.plan.shrink
        if not isinstance(self._run.policy, NoPruning):
            batches = self._refill.watched(batches, self._own.sampler)
        if selected.all():
            return iter(batches)
        groups = self._run.policy.group_of
        if groups is not None:  # side by side, so that a batch that is filled up ends with a whole one
            batches = (sorted(batch, key=groups.__getitem__) for batch in batches)
        if shrink is None:
            return self._refill.pooled(batches, selected)
        return self._refill.shrunk(batches, selected, shrink)


def filled_up(batches: Iterable[list[int]], smallest: int) -> Iterator[list[int]]:
    """The ``batches``, the last of at least ``smallest`` indices, which the one before gives it."""
    before: list[int] = []
    for batch in batches:
        missing = smallest - len(batch)
        if missing > 0 and len(before) >= smallest + missing:
            batch = before[-missing:] + batch
            del before[-missing:]
        if before:
            yield before
        before = batch
    if before:
        yield before


def some(items: Iterator[T], epoch: int) -> Iterator[T]:
    """The ``items`` that a sampler of the user's gives in an epoch. ``ValueError`` if there are none."""
    for first in items:
        return chain([first], items)
    raise ValueError(
        f"the sampler gives no samples in epoch {epoch}, which would end untrained: an iterator or a "
        "generator gives its items once. Give an object that can be iterated again, such as a list or a "
        "Sampler"
    )


def indices_of(items: Iterable[Any], source: object) -> Iterator[int]:
    """The ``items`` that a sampler of the user's gave, if they are indices. ``TypeError`` otherwise."""
    for item in items:
        try:
            yield operator.index(item)
        except TypeError:
            raise TypeError(
                f"{type(source).__name__} gave {str(item)[:60]}, a {type(item).__name__}, where pruning "
                "needs the integer index of one sample. A sampler of batches is given as "
                "batch_sampler=; what else a sample depends on (a size, a view) is for the dataset or "
                "the collate_fn to know"
            ) from None


def batches_of(items: Iterable[Any], source: object) -> Iterator[list[int]]:
    """The batches of indices that a batch sampler of the user's gave. ``TypeError`` otherwise."""
    for item in items:
        try:
            batch = iter(item)
        except TypeError:
            raise TypeError(
                f"{type(source).__name__} gave {str(item)[:60]}, a {type(item).__name__}, where a batch "
                "sampler gives the indices of a batch; a sampler of single indices is given as sampler="
            ) from None
        yield list(indices_of(batch, source))


def begin_pass(run: Run, resumes: bool = True) -> Epoch:
    """The epoch that a sampler is about to iterate. ``RuntimeError`` if nothing is left of it.

    A loader that skips by itself (not ``resumes``) may go through an epoch that the run was resumed at
    the end of, to skip it, and so may a loop that has still to observe what the epoch left out.
    """
    epoch = run.current
    run.seed_workers()
    may_be_finished = epoch.resumed_at_end and (not resumes or run.is_to_observe)
    if epoch.given_out and not epoch.finished:
        raise RuntimeError(
            f"epoch {epoch.number} has been given out to its end, but only {epoch.num_done:,} of its "
            f"{epoch.length:,} samples have been recorded when the loader is iterated again, which "
            "would train the rest of it as if it were the next. Either something reads ahead into the "
            "next epoch, which is drawn by what this one records (MultiEpochsDataLoader, for which "
            "persistent_workers=True does the same), or batches go without pruner.update(losses, "
            "indices), or the loop was left before they had it. Begin each epoch with `for epoch in "
            "pruner.epochs():`, and iterate once in it: of an epoch that was left, the rest is given"
        )
    if epoch.finished and epoch.num_trained and not may_be_finished:
        done, left = ("all", "") if epoch.is_whole else (f"{epoch.num_done:,}", ", and it was ended")
        raise RuntimeError(
            f"epoch {epoch.number} is finished: {done} of its {epoch.length:,} samples have been "
            f"recorded{left}. Begin the next one, with `for epoch in pruner.epochs():` or "
            f"`pruner.set_epoch({epoch.number + 1})`"
        )
    return epoch


def _begin_own_order(run: Run, batching: Batching | None, resumes: bool) -> Epoch:
    """The epoch that is about to be iterated in the library's own order, in batches as it has them."""
    epoch = begin_pass(run, resumes)
    if epoch.user_draws is not None:
        raise _other_loader("filters a sampler of yours", "has the library's own order", "order")
    _check_latest(batching, run.plan.batching)
    return epoch


def _begin_filtering(run: Run, own: UserSampler[Any], resumes: bool) -> tuple[Epoch, UserDraws]:
    """The epoch that a user's own sampler is about to order, and its draws."""
    epoch = begin_pass(run, resumes)
    if epoch.user_draws is None:
        raise _other_loader("has the library's own order", "filters a sampler of yours", "order")
    if not own.is_latest:
        _check_latest(own.measure(), run.plan.batching)
    return epoch, epoch.user_draws


def _check_latest(made: Batching | None, latest: Batching | None) -> None:
    """Refuse a sampler ``made`` for other batches than the run has by the ``latest`` one."""
    if made is not None and latest is not None and made != latest:
        raise _other_loader(f"has {latest.described}", f"has {made.described}", "kind of batches")


def _other_loader(last: str, this: str, what: str) -> RuntimeError:
    return RuntimeError(
        f"the loader made last {last}, but this one {this}; a run has one {what}, so make one loader "
        "for a pruner, and for evaluation a DataLoader of its own"
    )
