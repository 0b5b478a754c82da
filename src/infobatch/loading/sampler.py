"""What a DataLoader iterates: the epoch's order, or the user's own without what is left out."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from infobatch.epoch import Epoch
from infobatch.loading.refill import Refill
from infobatch.policies import NoPruning
from infobatch.run import Run
from infobatch.user_order import UserDraws, num_draws


class PrunedSampler(Sampler[int]):
    """The indices of the epoch that are still to be trained on this rank, in order.

    Iterating it changes nothing. Its length is the number left when the epoch began or was resumed.
    Made by :meth:`DynamicPruner.sampler`.

    Args:
        run: The pruner whose epochs it gives.
        resumes: Whether it begins after what has been recorded. False gives the whole epoch, for a
            loader that skips what was trained by itself (StatefulDataLoader).
    """

    def __init__(self, run: Run, resumes: bool = True) -> None:
        self._run = run
        self._resumes = resumes

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: see :meth:`DynamicPruner.set_epoch`."""
        self._run.set_epoch(epoch)

    def __len__(self) -> int:
        return self._run.current.num_draws(self._resumes)

    def __iter__(self) -> Iterator[int]:
        epoch = begin_pass(self._run, self._resumes)
        if epoch.user_draws is not None:
            raise _other_order("filters a sampler of yours", "has the library's own order")
        return epoch.draws(self._resumes)


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
        """Begin an epoch: see :meth:`DynamicPruner.set_epoch`."""
        self._run.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._run.current.batch_ends(self._resumes))

    def __iter__(self) -> Iterator[list[int]]:
        epoch = begin_pass(self._run, self._resumes)
        if epoch.user_draws is not None:
            raise _other_order("filters a sampler of yours", "has the library's own order")
        return epoch.batches(self._resumes)


class FilteredSampler(Sampler[int]):
    """The user's own sampler, without samples that are left out or were recorded before.

    It has no length: how many of its indices are selected is known only by drawing them. Made by
    :meth:`DynamicPruner.filter`.

    Args:
        run: The pruner whose epochs it gives.
        sampler: The user's sampler of indices.
        multiple: It gives whole groups of so many indices: the batch size, if a last short batch is
            dropped.
        resumes: See :class:`PrunedSampler`.
    """

    def __init__(
        self, run: Run, sampler: Iterable[int], multiple: int = 1, resumes: bool = True
    ) -> None:
        self._run = run
        self.sampler = sampler
        self._multiple = multiple
        self._resumes = resumes

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: see :meth:`DynamicPruner.set_epoch`."""
        self._run.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        draws = _begin_filtering(self._run, self._resumes)
        selected, is_unrecorded = draws.selected, draws.unrecorded(self._resumes)
        share = self._run.replicas.share_of(len(selected))
        part = draws.first_part(self.sampler, num_draws(self.sampler, share))
        drawn = indices_of(part, self.sampler)
        wanted = (index for index in drawn if selected[index] and is_unrecorded(index))
        # In whole batches where the last short one is dropped, so that it is known which is the last.
        groups = iter(lambda: list(islice(wanted, self._multiple)), [])
        return chain.from_iterable(draws.note_end(groups, self._resumes, self._multiple))


class FilteredBatchSampler(Sampler[list[int]]):
    """The user's own batch sampler, its batches without the samples left out and filled up again.

    On full data they are the user's own. Otherwise the selected samples of successive batches are pooled
    until they make a batch as large as the user's was, so that an epoch has fewer steps, not smaller
    ones. Pools that never fill come last, as short batches. Where batches shrink there are as many as
    the user's, each smaller by the same part; an epoch's indices are then drawn at once. Made by
    :meth:`DynamicPruner.filter_batches`.

    Args:
        run: The pruner whose epochs it gives.
        batch_sampler: The user's sampler of batches.
        refill: What batches keep of the user's.
        resumes: See :class:`PrunedSampler`.
    """

    def __init__(
        self,
        run: Run,
        batch_sampler: Collection[Sequence[int]],
        refill: Refill,
        resumes: bool = True,
    ) -> None:
        self._run = run
        self.batch_sampler = batch_sampler
        self._refill = refill
        self._resumes = resumes

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: see :meth:`DynamicPruner.set_epoch`."""
        self._run.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        draws = _begin_filtering(self._run, self._resumes)
        is_unrecorded = draws.unrecorded(self._resumes)
        part = draws.first_part(self.batch_sampler, len(self.batch_sampler))
        # The batches are those of the whole epoch, so that a run resumed within it has the same ones.
        batches = self._formed(batches_of(part, self.batch_sampler), draws.selected)
        rest = ([index for index in batch if is_unrecorded(index)] for batch in batches)
        yield from draws.note_end((batch for batch in rest if batch), self._resumes)

    def _formed(self, batches: Iterable[list[int]], selected: np.ndarray) -> Iterator[list[int]]:
        """The batches of an epoch: the user's own, or others of the selected indices alone."""
        shrink = self._run.plan.shrink
        if not isinstance(self._run.policy, NoPruning):
            batches = self._refill.watched(batches, self.batch_sampler)
        if selected.all():
            return iter(batches)
        if shrink is None:
            return self._refill.pooled(batches, selected)
        return self._refill.shrunk(batches, selected, shrink)


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
    the end of, to skip it.
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


def _begin_filtering(run: Run, resumes: bool) -> UserDraws:
    """The draws of the epoch that a user's own sampler is about to order."""
    draws = begin_pass(run, resumes).user_draws
    if draws is None:
        raise _other_order("has the library's own order", "filters a sampler of yours")
    return draws


def _other_order(last: str, this: str) -> RuntimeError:
    return RuntimeError(
        f"the loader made last {last}, but this one {this}; a run has one order, so make one loader "
        "for a pruner"
    )
