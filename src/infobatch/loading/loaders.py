"""Makes the loaders and samplers of a run, and tells them which epoch begins."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from torch.utils.data import BatchSampler, default_convert

from infobatch.batching import Batching
from infobatch.loading.dataset import IndexedCollate, IndexedDataset
from infobatch.loading.refill import Refill
from infobatch.loading.sampler import (
    FilteredBatchSampler,
    FilteredSampler,
    PrunedBatchSampler,
    PrunedSampler,
    indices_of,
)
from infobatch.run import Run
from infobatch.user_order import num_batch_draws, num_draws


class Loaders:
    """Makes the loaders and samplers of one run, of which it keeps what has to be told of new epochs.

    :class:`DynamicPruner` documents the methods. They are given the run, so that a run and its loaders
    do not keep one another alive.

    Args:
        takes_user_order: Whether a sampler of the user's own may order its epochs.
    """

    def __init__(self, takes_user_order: bool) -> None:
        self._takes_user_order = takes_user_order
        self._user_samplers: list[Any] = []
        self._skipping_loaders = SkippingLoaders()

    def loader(
        self,
        run: Run,
        batch_size: int | None,
        sampler: Iterable[int] | None,
        batch_sampler: Collection[Sequence[int]] | None,
        refill: Refill,
        collate_fn: Callable[[Any], Any] | None,
        drop_last: bool,
        loader_class: Callable[..., Any],
        options: dict[str, Any],
    ) -> Any:
        if options.pop("shuffle", True) is False:
            raise ValueError(
                "shuffle=False has no meaning here: the epoch's order is a permutation of its own. "
                "Give sampler= to have your own order filtered"
            )
        if batch_sampler is None and not refill.is_plain:
            raise ValueError(
                "bucket, max_cost and cost say how the batches of a batch sampler of yours are filled "
                "up again, and there is none; give batch_sampler=, or leave them out"
            )
        options.setdefault("generator", run.worker_generator)
        size = 1 if batch_size is None else batch_size
        resumes = not hasattr(loader_class, "load_state_dict")  # or else it skips by itself
        if batch_sampler is not None:
            options["batch_sampler"] = self.filter_batches(run, batch_sampler, refill, resumes)
        elif run.plan.shrink:
            options["batch_sampler"] = self._shrinking(run, sampler, batch_size, drop_last, resumes)
        elif sampler is None:
            options.update(batch_size=batch_size, drop_last=drop_last)
            options["sampler"] = self.sampler(run, size, drop_last, resumes)
        else:
            filtered = self.filter(run, sampler, size, drop_last, resumes)
            if batch_size is None:
                options.update(batch_size=None, sampler=filtered)
            else:
                options["batch_sampler"] = FilteredBatches(run, filtered, batch_size, drop_last)
        loader = _make_loader(loader_class, run.dataset, collate_fn, **options)
        if not resumes:
            self._skipping_loaders.add(loader)
        return loader

    def _shrinking(
        self,
        run: Run,
        sampler: Iterable[int] | None,
        batch_size: int | None,
        drop_last: bool,
        resumes: bool,
    ) -> PrunedBatchSampler | FilteredBatchSampler:
        """The batches of a loader whose batches shrink."""
        if batch_size is None:
            raise ValueError(
                "batch_size is None, with which a loader makes no batches that could shrink; give the "
                "batch size of full data, or leave out steps instead: shrink='steps'"
            )
        if sampler is None:
            return self.batch_sampler(run, batch_size, drop_last, resumes)
        _check_gives_indices(sampler)
        share = run.replicas.share_of(run.num_samples)
        batches: Any = UserBatches(sampler, batch_size, drop_last, num_draws(sampler, share))
        return self.filter_batches(run, batches, Refill(), resumes)

    def batch_sampler(
        self, run: Run, batch_size: int, drop_last: bool, resumes: bool
    ) -> PrunedBatchSampler:
        if run.plan.shrink is None:
            raise ValueError(
                "a batch sampler gives batches that shrink, and this pruner leaves out steps; make it "
                "with shrink='batches', or give the DataLoader batch_size and sampler=pruner.sampler()"
            )
        run.set_batching(Batching(batch_size, drop_last, run.replicas.num_replicas))
        return PrunedBatchSampler(run, resumes)

    def sampler(self, run: Run, batch_size: int, drop_last: bool, resumes: bool) -> PrunedSampler:
        _check_fixed_size(run, "batch_sampler=pruner.batch_sampler(batch_size)")
        run.set_batching(Batching(batch_size, drop_last, run.replicas.num_replicas))
        return PrunedSampler(run, resumes)

    def filter(
        self, run: Run, sampler: Iterable[int], batch_size: int, drop_last: bool, resumes: bool
    ) -> FilteredSampler:
        _check_fixed_size(
            run, "batch_sampler=pruner.filter_batches(BatchSampler(sampler, batch_size, False))"
        )
        _check_gives_indices(sampler)
        length = num_draws(sampler, run.replicas.share_of(run.num_samples))
        self._take_user_order(run, sampler, batch_size, length, drop_last)
        return FilteredSampler(run, sampler, batch_size if drop_last else 1, resumes)

    def filter_batches(
        self,
        run: Run,
        batch_sampler: Collection[Sequence[int]],
        refill: Refill,
        resumes: bool,
    ) -> FilteredBatchSampler:
        length = num_batch_draws(batch_sampler, run.replicas.share_of(run.num_samples))
        self._take_user_order(run, batch_sampler, length / max(1, len(batch_sampler)), length)
        return FilteredBatchSampler(run, batch_sampler, refill, resumes)

    # -- When an epoch begins and ends --------------------------------------------------------------

    def begin(self, epoch: int) -> None:
        """Tell samplers of the user's own which epoch begins."""
        for sampler in self._user_samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)

    def skip(self) -> None:
        """Have loaders that skip by themselves skip the rest of an epoch that was resumed at its end."""
        self._skipping_loaders.skip()

    # -- Inside ------------------------------------------------------------------------------------

    def _take_user_order(
        self, run: Run, sampler: Any, batch_size: float, length: int, drop_last: bool = False
    ) -> None:
        self._check_user_order(run)
        run.set_batching(Batching(batch_size, drop_last, run.replicas.num_replicas, length))
        # A batch sampler may hand its epoch on to the sampler within, or leave that to us.
        self._user_samplers += [sampler, getattr(sampler, "sampler", None)]

    def _check_user_order(self, run: Run) -> None:
        if not self._takes_user_order:
            raise ValueError(
                "with layout=Sharded() each rank trains the samples whose scores it holds, and a "
                "sampler of your own may give it others; leave the order to the pruner, or drop layout="
            )
        if run.normalizer == "weights" and run.replicas.num_replicas > 1:
            raise ValueError(
                "normalizer='weights' divides by the sum of weights on all ranks, and which samples "
                "the others train is not known with a sampler of your own; use normalizer='batch'"
            )


def _check_gives_indices(sampler: object) -> None:
    """Refuse a sampler of batches in place of one of indices."""
    if isinstance(sampler, BatchSampler):
        raise TypeError(
            f"sampler is a {type(sampler).__name__}, which gives batches of indices; give it as "
            "batch_sampler=, or in place of pruner.filter to pruner.filter_batches"
        )


class UserBatches(BatchSampler):
    """Batches of a sampler that need not tell its length.

    Args:
        sampler: The user's sampler of indices.
        batch_size: Samples in a batch.
        drop_last: Whether a last batch that is not full is dropped.
        length: Indices that the sampler gives.
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool, length: int) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self._num_batches = Batching(batch_size, drop_last).num_steps(length)

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[list[int]]:
        indices = indices_of(self.sampler, self.sampler)
        while batch := list(islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch


class FilteredBatches(BatchSampler):
    """Batches of a filtered sampler; where samples are left out, the last is none of a single sample.

    If there is but one sample left for it, the batch before gives it one of its own.

    Args:
        run: The pruner whose epochs they are.
        sampler: The filtered sampler.
        batch_size: Samples in a batch.
        drop_last: Whether a last batch that is not full is dropped.
    """

    def __init__(self, run: Run, sampler: FilteredSampler, batch_size: int, drop_last: bool) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self._run = run

    def __iter__(self) -> Iterator[list[int]]:
        if self._run.current.num_selected == self._run.num_samples:
            yield from super().__iter__()
            return
        before: list[int] = []
        for batch in super().__iter__():
            if len(batch) == 1 and len(before) > 2:
                batch.insert(0, before.pop())
            if before:
                yield before
            before = batch
        if before:
            yield before


def _check_fixed_size(run: Run, remedy: str) -> None:
    """Refuse a sampler for batches of a fixed size where batches shrink."""
    if run.plan.shrink:
        raise ValueError(
            "a sampler gives samples to batches of one size, and with shrink='batches' those of pruned "
            f"epochs are smaller; give the DataLoader {remedy}, without a batch_size"
        )


def _make_loader(
    loader_class: Callable[..., Any],
    dataset: Any,
    collate_fn: Callable[[Any], Any] | None,
    **options: Any,
) -> Any:
    """A loader of ``(indices, batch)``; ``options`` are those of DataLoader."""
    single = "batch_sampler" not in options and options.get("batch_size") is None
    if collate_fn is None and single:
        collate_fn = default_convert
    return loader_class(IndexedDataset(dataset), collate_fn=IndexedCollate(collate_fn), **options)


class SkippingLoaders:
    """Loaders that skip by themselves what was trained (torchdata's), held by weak references."""

    def __init__(self) -> None:
        self._references: list[weakref.ref[Any]] = []

    def add(self, loader: Any) -> None:
        self._references.append(weakref.ref(loader))

    def skip(self) -> None:
        """Have each skip what it still has to, within the epoch that the run was resumed in."""
        for reference in self._references:
            loader = reference()
            if loader is not None:
                next(iter(loader), None)

    def __reduce__(self) -> tuple[type[SkippingLoaders], tuple[()]]:
        return SkippingLoaders, ()  # a copy of the pruner has no loaders yet
