"""How a pruner's epochs become batches: its loaders, and its samplers for loaders of one's own."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence, Sized
from typing import Any

import torch
from torch.utils.data import DataLoader, default_convert

from infobatch.batching import Batching
from infobatch.distributed import Replicas
from infobatch.epoch import Epoch
from infobatch.layouts.base import Layout
from infobatch.loading.dataset import IndexedCollate, IndexedDataset
from infobatch.loading.sampler import FilteredBatchSampler, FilteredSampler, PrunedSampler
from infobatch.losses import Normalizer
from infobatch.plan import RunPlan
from infobatch.seeding import Stream, epoch_generator
from infobatch.user_order import num_batch_draws, num_draws


class Loaders(ABC):
    """The part of :class:`DynamicPruner` that makes loaders and samplers."""

    dataset: Sized
    num_samples: int
    seed: int
    normalizer: Normalizer
    replicas: Replicas
    plan: RunPlan
    _layout: Layout
    _epoch: Epoch | None

    def _prepare_loaders(self) -> None:
        # What loaders seed their workers from, so that it depends on the epoch alone.
        self.worker_generator = self._worker_seeds(0)
        self._own_samplers: list[Any] = []
        self._skipping_loaders = SkippingLoaders()

    @property
    @abstractmethod
    def current(self) -> Epoch:
        """The epoch under way. Epoch 0 begins when it is first asked for."""

    @abstractmethod
    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: decide, once, what it trains on. Never goes backwards."""

    def loader(
        self,
        batch_size: int | None = 1,
        *,
        sampler: Iterable[int] | None = None,
        batch_sampler: Collection[Sequence[int]] | None = None,
        bucket: Callable[[int], Hashable] | None = None,
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        loader_class: Callable[..., Any] = DataLoader,
        **options: Any,
    ) -> Any:
        """A DataLoader of ``(samples, batch)``: int64 indices (B,) on the host, and what yours gives.

        Takes DataLoader's options; the order is always shuffled. ``sampler`` or ``batch_sampler``: your
        own, filtered, on several replicas one that gives this rank's share: see :meth:`filter`.
        ``bucket``: see :class:`FilteredBatchSampler`. ``loader_class``: torchdata's StatefulDataLoader,
        say, which then does the skipping when a run is resumed.
        """
        if options.pop("shuffle", True) is False:
            raise ValueError(
                "shuffle=False has no meaning here: the epoch's order is a permutation of its own. "
                "Give sampler= to have your own order filtered"
            )
        options.setdefault("generator", self.worker_generator)
        size = 1 if batch_size is None else batch_size
        resumes = not hasattr(loader_class, "load_state_dict")
        if batch_sampler is not None:
            options["batch_sampler"] = self.filter_batches(batch_sampler, bucket, resumes=resumes)
        else:
            options.update(batch_size=batch_size, drop_last=drop_last)
            options["sampler"] = (
                self.sampler(size, drop_last=drop_last, resumes=resumes)
                if sampler is None
                else self.filter(sampler, size, drop_last=drop_last, resumes=resumes)
            )
        loader = make_loader(loader_class, self.dataset, collate_fn, **options)
        if not resumes:
            self._skipping_loaders.add(loader)
        return loader

    def sampler(
        self, batch_size: int, *, drop_last: bool = False, resumes: bool = True
    ) -> PrunedSampler:
        """The sampler, for a DataLoader of your own over ``IndexedDataset`` and ``IndexedCollate``.

        ``batch_size`` (on each replica) and ``drop_last`` must be the loader's. ``resumes``: false
        for a loader that skips what was trained itself.
        """
        self._set_batching(Batching(batch_size, drop_last, self.replicas.num_replicas))
        return PrunedSampler(self, resumes)

    def filter(
        self,
        sampler: Iterable[int],
        batch_size: int,
        *,
        drop_last: bool = False,
        resumes: bool = True,
    ) -> FilteredSampler:
        """Your own sampler of indices, without the samples left out. Arguments as in :meth:`sampler`.

        Its ``len``, else the number of samples, is an epoch's length on full data; a sample that it
        gives twice is trained twice. It is not shared out: on several replicas it must give this rank's
        share, as ``DistributedSampler`` does, and the ranks' batches may then differ in number.
        """
        share = -(-self.num_samples // self.replicas.num_replicas)
        self._set_own_order(sampler, batch_size, num_draws(sampler, share), drop_last)
        return FilteredSampler(self, sampler, batch_size if drop_last else 1, resumes)

    def filter_batches(
        self,
        batch_sampler: Collection[Sequence[int]],
        bucket: Callable[[int], Hashable] | None = None,
        *,
        resumes: bool = True,
    ) -> FilteredBatchSampler:
        """Your own batch sampler, without the samples left out: :class:`FilteredBatchSampler`.

        What :meth:`filter` says of samplers holds for it.
        """
        share = -(-self.num_samples // self.replicas.num_replicas)
        length = num_batch_draws(batch_sampler, share)
        self._set_own_order(batch_sampler, length / max(1, len(batch_sampler)), length)
        return FilteredBatchSampler(self, batch_sampler, bucket, resumes)

    def seed_workers(self) -> None:
        """Set :attr:`worker_generator` to the epoch's seed."""
        seeds = self._worker_seeds(self.current.number)
        self.worker_generator.manual_seed(seeds.initial_seed())

    def _set_own_order(
        self, sampler: Any, batch_size: float, length: int, drop_last: bool = False
    ) -> None:
        check_own_order(self.normalizer, self.replicas.num_replicas, self._layout.name)
        self._set_batching(Batching(batch_size, drop_last, self.replicas.num_replicas, length))
        # A batch sampler may hand its epoch on to the sampler within, or leave that to us.
        self._own_samplers += [sampler, getattr(sampler, "sampler", None)]

    def _set_batching(self, batching: Batching) -> None:
        if batching != self.plan.batching:
            epoch = self._epoch
            begun = epoch is not None and epoch.number + epoch.num_recorded > 0
            self.plan.set_batching(batching, begun)
            self._epoch = None  # looked at, perhaps, but nothing trained: it begins anew

    def _announce(self, epoch: int) -> None:
        """Tell samplers of the user's own which epoch begins."""
        for sampler in self._own_samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)

    def _worker_seeds(self, epoch: int) -> torch.Generator:
        return epoch_generator(self.seed, epoch, Stream.LOADER, self.replicas.rank)


def make_loader(
    loader_class: Callable[..., Any],
    dataset: Any,
    collate_fn: Callable[[Any], Any] | None,
    **options: Any,
) -> Any:
    """A loader of ``(samples, batch)``; ``options`` are those of DataLoader."""
    single = "batch_sampler" not in options and options.get("batch_size") is None
    if collate_fn is None and single:
        collate_fn = default_convert
    return loader_class(IndexedDataset(dataset), collate_fn=IndexedCollate(collate_fn), **options)


class SkippingLoaders:
    """Loaders that skip what was trained by themselves (torchdata's), not kept alive by being here."""

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


def check_own_order(normalizer: str, num_replicas: int, layout: str) -> None:
    if layout == "sharded":
        raise ValueError(
            "with layout=Sharded() each rank trains the samples whose scores it holds, and a sampler of "
            "your own may give it others; leave the order to the pruner, or drop layout="
        )
    if normalizer == "weights" and num_replicas > 1:
        raise ValueError(
            "normalizer='weights' divides by the sum of weights on all replicas, and which samples "
            "the others train is not known with a sampler of your own; use normalizer='batch'"
        )
