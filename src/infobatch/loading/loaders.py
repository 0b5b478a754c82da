"""Makes the loaders and samplers of a run, and tells them which epoch begins."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Sized
from functools import partial
from itertools import islice
from numbers import Integral
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, default_convert

from infobatch.batching import SMALLEST_LAST, Batching
from infobatch.distributed import Replicas
from infobatch.epoch import Epoch
from infobatch.loading.dataset import IndexedCollate, IndexedDataset
from infobatch.loading.made import MadeLoaders, skips_by_itself
from infobatch.loading.refill import Refill
from infobatch.loading.sampler import (
    FilteredBatchSampler,
    FilteredSampler,
    PrunedBatchSampler,
    PrunedSampler,
    ShareSampler,
    indices_of,
)
from infobatch.loading.user_sampler import UserSampler, num_batch_draws, num_draws
from infobatch.run import Run


class Loaders:
    """Makes the loaders and samplers of one run, of which it keeps what has to be told of new epochs.

    :class:`DynamicPruner` documents the methods. They are given the run, so that a run and its loaders
    do not keep one another alive.

    Args:
        takes_user_order: Whether a sampler of the user's own may order its epochs.

    Attributes:
        keeps_order: Whether batches come in the order of their sampler, however fast workers are.
    """

    def __init__(self, takes_user_order: bool) -> None:
        self.keeps_order = True
        self._takes_user_order = takes_user_order
        self._own: UserSampler[Any] | None = None
        self._made = MadeLoaders()
        self._num_samples: int | None = None  # when an epoch began last

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
        if batch_sampler is not None:
            _check_alone(batch_size, sampler, drop_last)
        options.setdefault("generator", run.worker_generator)
        batch_size = None if batch_size is None else _whole(batch_size)
        size = 1 if batch_size is None else batch_size
        self.keeps_order = bool(options.get("in_order", True))
        resumes = not skips_by_itself(loader_class)
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
                options["batch_sampler"] = FilteredBatches(filtered, batch_size, drop_last)
        loader = _make_loader(loader_class, run.dataset, collate_fn, **options)
        if "batch_sampler" in options and isinstance(loader, DataLoader):
            # It is not read beside batches, but frameworks look at it, leave alone what is a share, and
            # tell it of epochs.
            object.__setattr__(loader, "sampler", ShareSampler(run))
        self._made.add(loader, skips=not resumes)
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
        self._take_own_order(run, _whole(batch_size), drop_last)
        return PrunedBatchSampler(run, resumes)

    def sampler(self, run: Run, batch_size: int, drop_last: bool, resumes: bool) -> PrunedSampler:
        _check_fixed_size(run, "batch_sampler=pruner.batch_sampler(batch_size)")
        self._take_own_order(run, _whole(batch_size), drop_last)
        return PrunedSampler(run, resumes)

    def filter(
        self, run: Run, sampler: Iterable[int], batch_size: int, drop_last: bool, resumes: bool
    ) -> FilteredSampler:
        _check_fixed_size(
            run, "batch_sampler=pruner.filter_batches(BatchSampler(sampler, batch_size, False))"
        )
        _check_gives_indices(sampler)
        batch_size = _whole(batch_size)
        measure = partial(_batching_of, sampler, run.dataset, run.replicas, batch_size, drop_last)
        own = self._take_user_order(run, sampler, measure)
        return FilteredSampler(run, own, batch_size, drop_last, resumes)

    def filter_batches(
        self,
        run: Run,
        batch_sampler: Collection[Sequence[int]],
        refill: Refill,
        resumes: bool,
    ) -> FilteredBatchSampler:
        measure = partial(_batching_of_batches, batch_sampler, run.dataset, run.replicas)
        own = self._take_user_order(run, batch_sampler, measure)
        return FilteredBatchSampler(run, own, refill, resumes)

    # -- When an epoch begins and ends --------------------------------------------------------------

    def begin(self, run: Run, epoch: int) -> None:
        """Tell the user's own sampler which epoch begins, and ask it how long that is.

        Where the dataset has grown, loaders begin the epoch with new workers.
        """
        if self._num_samples not in (None, run.num_samples):
            self._made.end_workers()
        self._num_samples = run.num_samples
        if self._own is not None:
            run.plan.follow(self._own.begin(epoch))

    def begun(self, epoch: Epoch) -> None:
        """Tell what stands for the user's own sampler that an epoch has begun."""
        if self._own is None or epoch.user_draws is None:
            return
        if epoch.user_draws.start is None:
            epoch.user_draws.start = self._own.start_of(epoch.number)
        chances, weights = self._own.chances, epoch.selection.weights.numpy()
        if chances is not None and len(chances) == len(weights):
            epoch.user_draws.expect(chances, weights)
        if hasattr(self._own.sampler, "epoch_begun"):
            self._own.sampler.epoch_begun()

    def ending(self) -> None:
        """Tell what stands for the user's own sampler that the epoch under way is about to end."""
        if self._own is not None and hasattr(self._own.sampler, "epoch_ending"):
            self._own.sampler.epoch_ending()

    def skip(self) -> None:
        """Have loaders that skip by themselves skip the rest of an epoch that was resumed at its end."""
        self._made.skip()

    # -- Inside ------------------------------------------------------------------------------------

    def _take_own_order(self, run: Run, batch_size: int, drop_last: bool) -> None:
        run.set_batching(Batching(batch_size, drop_last, run.replicas.num_replicas))
        self._own = None

    def _take_user_order(
        self, run: Run, sampler: Any, measure: Callable[[], Batching]
    ) -> UserSampler[Any]:
        self._check_user_order(run)
        own = UserSampler(sampler, measure)
        run.set_batching(measure() if run.begun is None else own.begin(run.begun))
        if self._own is not None:
            self._own.is_latest = False
        self._own = own
        return own

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


def _whole(batch_size: int) -> int:
    """A batch size as Python's own number. ``TypeError`` for one that is not whole."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral):
        raise TypeError(f"batch_size is {batch_size!r}; it must be a whole number, at least 1")
    return int(batch_size)


def _batching_of(
    sampler: Iterable[int], dataset: Sized, replicas: Replicas, batch_size: int, drop_last: bool
) -> Batching:
    """How the indices of the user's own sampler become batches, as it is now."""
    length = num_draws(sampler, replicas.share_of(len(dataset)))
    return Batching(batch_size, drop_last, replicas.num_replicas, length)


def _batching_of_batches(
    batch_sampler: Collection[Sequence[int]], dataset: Sized, replicas: Replicas
) -> Batching:
    """The batches of the user's own sampler of batches, as it is now."""
    length = num_batch_draws(batch_sampler, replicas.share_of(len(dataset)))
    return Batching(length / max(1, len(batch_sampler)), False, replicas.num_replicas, length)


def _check_alone(batch_size: int | None, sampler: object, drop_last: bool) -> None:
    """Refuse, as DataLoader does, what a batch sampler says itself."""
    given = {"batch_size": batch_size not in (1, None), "sampler": sampler is not None}
    beside = [name for name, is_given in {**given, "drop_last": drop_last}.items() if is_given]
    if beside:
        raise ValueError(
            f"{' and '.join(beside)} are given beside batch_sampler, which makes the batches by itself, "
            "and would have no effect; leave out one or the other"
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
    """Batches of a filtered sampler; where samples are left out, the last is none of a single sample."""

    sampler: FilteredSampler

    def __iter__(self) -> Iterator[list[int]]:
        yield from self.sampler.batches(smallest=SMALLEST_LAST)


def _check_fixed_size(run: Run, remedy: str) -> None:
    """Refuse a sampler for batches of a fixed size where batches shrink."""
    if run.plan.shrink:
        raise ValueError(
            "a sampler gives samples to batches of one size, and those of pruned epochs are smaller, as "
            f"a budget of noise or shrink='batches' has it; give the DataLoader {remedy}, without a "
            "batch_size, or leave out steps instead: shrink='steps'"
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
