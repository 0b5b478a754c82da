"""The user's own sampler, which orders the epochs in place of the pruner."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from torch.utils.data import WeightedRandomSampler

from infobatch.batching import Batching
from infobatch.user_draws import UserDraws

T = TypeVar("T")


class _Rest(NamedTuple):
    """What an epoch has left of an endless sampler: for which epoch, and after how many items."""

    epoch: int
    items: Iterator[Any]
    start: int


class UserSampler(Generic[T]):
    """The user's own sampler, or sampler of batches, which is asked anew when an epoch begins.

    One that gives as much again as its length is taken to be endless: an epoch ends after that length,
    and the next goes on where it ended.

    Args:
        sampler: Gives indices, or batches of them.
        measure: Tells how samples become batches now.

    Attributes:
        is_latest: Whether no other was made after it for the same run.
    """

    def __init__(self, sampler: Iterable[T], measure: Callable[[], Batching]) -> None:
        self.sampler = sampler
        self.measure = measure
        self.is_latest = True
        self._rest: _Rest | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rest": None}  # an iterator cannot be copied; it is made anew

    def begin(self, epoch: int) -> Batching:
        """Tell the sampler which epoch begins; returns how samples become batches in it."""
        # A batch sampler may hand its epoch on to the sampler within, or leave that to us.
        samplers: tuple[Any, ...] = (self.sampler, getattr(self.sampler, "sampler", None))
        for each in samplers:
            if hasattr(each, "set_epoch"):
                each.set_epoch(epoch)
        return self.measure()

    @property
    def chances(self) -> np.ndarray | None:
        """With which chance each draw is of a sample, float64 (N,); None where it does not tell.

        PyTorch's WeightedRandomSampler tells, also within a batch sampler.
        """
        for each in (self.sampler, getattr(self.sampler, "sampler", None)):
            if isinstance(each, WeightedRandomSampler) and each.replacement:
                chances: np.ndarray = (each.weights / each.weights.sum()).double().cpu().numpy()
                return chances
        return None

    def start_of(self, epoch: int) -> int:
        """The number of items that come before those of an epoch that begins."""
        return self._rest.start if self._rest is not None and self._rest.epoch == epoch else 0

    def items(self, epoch: int, draws: UserDraws, num_items: int) -> Iterator[T]:
        """What the sampler gives in an epoch, which has ``num_items`` if it is endless."""
        start, rest = draws.start or 0, self._rest
        if rest is not None and rest.epoch == epoch:
            items, self._rest = rest.items, None
        else:
            items = islice(iter(self.sampler), start, None)
        yield from islice(items, math.ceil(draws.part * num_items - 1e-9))
        if draws.part < 1:
            return
        more = list(islice(items, num_items))
        if len(more) < num_items:  # its length was told too low
            yield from more
        else:
            draws.following = start + num_items
            self._rest = _Rest(epoch + 1, chain(more, items), draws.following)


def num_draws(sampler: object, otherwise: int) -> int:
    """Number of indices that a sampler gives in an epoch; ``otherwise`` where it does not tell."""
    try:
        return len(sampler)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return otherwise


def num_batch_draws(batch_sampler: Collection[Sequence[int]], otherwise: int) -> int:
    """Number of indices in the batches of an epoch, as far as a batch sampler tells."""
    if isinstance(batch_sampler, Sequence):
        return sum(map(len, batch_sampler))
    size = getattr(batch_sampler, "batch_size", None)
    if isinstance(size, int):
        otherwise = len(batch_sampler) * size
    # With drop_last the batches hold less than the sampler gives, otherwise the last may be short.
    drawn = num_draws(getattr(batch_sampler, "sampler", None), otherwise)
    return min(drawn, otherwise) if isinstance(size, int) else drawn
