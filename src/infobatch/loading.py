"""DataLoaders of indexed samples, of whatever class."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch.utils.data import default_convert

from infobatch.dataset import IndexedCollate, IndexedDataset


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
