"""The loaders that a run has made, which are told what happens between its epochs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader


def skips_by_itself(loader_class: Callable[..., Any]) -> bool:
    """Whether loaders of a class skip by themselves what was trained before a run was resumed."""
    while isinstance(loader_class, partial):
        loader_class = loader_class.func
    return hasattr(loader_class, "load_state_dict")


class MadeLoaders:
    """The loaders that a run has made, held by weak references."""

    def __init__(self) -> None:
        self._skipping: list[weakref.ref[Any]] = []
        self._persistent: list[weakref.ref[Any]] = []

    def add(self, loader: Any, skips: bool) -> None:
        """Take in a loader.

        Args:
            loader: The loader, of any class.
            skips: Whether it skips by itself what was trained (torchdata's).
        """
        if skips:
            self._skipping.append(weakref.ref(loader))
        if isinstance(loader, DataLoader) and loader.persistent_workers:
            self._persistent.append(weakref.ref(loader))

    def skip(self) -> None:
        """Have those that skip by themselves skip what they have to, of the epoch resumed at its end."""
        for loader in _alive(self._skipping):
            next(iter(loader), None)

    def end_workers(self) -> None:
        """End workers that would live on, with the dataset as it was when they began.

        A loader that has no iterator begins its next epoch with new ones.
        """
        for loader in _alive(self._persistent):
            loader._iterator = None

    def __reduce__(self) -> tuple[type[MadeLoaders], tuple[()]]:
        return MadeLoaders, ()  # a copy of the pruner has no loaders yet


def _alive(references: list[weakref.ref[Any]]) -> Iterator[Any]:
    for reference in references:
        loader = reference()
        if loader is not None:
            yield loader
