"""The user's batches without what is left out: filled up again, or smaller by the same part."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise

import numpy as np
from torch import Tensor

from infobatch.batching import SMALLEST_LAST, ShrinkBatches
from infobatch.loading.proportion import proportional_ends
from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.user_warnings import warn_user

Cost = Callable[[int], float] | Sequence[float] | np.ndarray | Tensor
"""What each sample costs: numbers (N,), or a function of the index."""

_ROUNDING = 1e-6
"""By how much of itself a budget may be exceeded: costs may have been added up in float32."""


class Refill:
    """What batches keep of the user's when they are made anew without what is left out.

    Args:
        bucket: Maps an index to what its batch mates must share; None for anything.
        max_cost: The most that the samples of a batch may cost, up to rounding; None if their number
            alone counts.
        cost: What each costs.

    Raises:
        ValueError: If only one of ``max_cost`` and ``cost`` is given, or the former is not above 0.
    """

    def __init__(
        self,
        bucket: Callable[[int], Hashable] | None = None,
        max_cost: float | None = None,
        cost: Cost | None = None,
    ) -> None:
        if (max_cost is None or max_cost == math.inf) != (cost is None):
            raise ValueError(
                f"max_cost is {max_cost} and cost is {'missing' if cost is None else 'given'}; give "
                "both, the most that a batch may cost and what each sample costs (its tokens, say)"
            )
        if max_cost is not None and not max_cost > 0:  # NaN too
            raise ValueError(f"max_cost is {max_cost}; it must be above 0")
        self.is_plain = bucket is None and max_cost is None
        self._by_bucket = max_cost is None
        self._bucket = bucket or (lambda index: None)
        self._max_cost = math.inf if max_cost is None else float(max_cost)
        self._most = self._max_cost * (1 + _ROUNDING)
        self._knows_sizes = max_cost is not None or bucket is not None
        self._costs: Callable[[int], float] = _as_function(cost)

    def pooled(self, batches: Iterable[list[int]], selected: np.ndarray) -> Iterator[list[int]]:
        """Batches as large as the user's, of the selected samples of successive ones.

        Args:
            batches: The user's batches of an epoch.
            selected: Which samples the epoch trains on, bool (N,).
        """
        pools: defaultdict[Hashable, _Pool] = defaultdict(lambda: _Pool(self._most))
        least = SMALLEST_LAST
        for batch in batches:
            least = min(least, len(batch) or least)
            for index in batch:
                if selected[index]:
                    pool = pools[self._bucket(index)]
                    yield from pool.add(index, self._price([index]), len(batch), least)
        for pool in pools.values():
            yield from pool.rest(least)

    def shrunk(
        self,
        batches: Iterable[list[int]],
        selected: np.ndarray,
        shrink: ShrinkBatches,
    ) -> Iterator[list[int]]:
        """As many batches as the user's, of the selected indices alone, smaller by the same part.

        They are fewer where the indices do not suffice, and more where the budget asks for it.
        """
        whole = [batch for batch in batches if batch]
        pools: defaultdict[Hashable, list[int]] = defaultdict(list)
        sizes: defaultdict[Hashable, list[list[int]]] = defaultdict(list)  # batches of each bucket
        buckets = [self._bucket(batch[0]) for batch in whole]
        for bucket, batch in zip(buckets, whole, strict=True):
            sizes[bucket].append(batch)
            for index in batch:
                if selected[index]:
                    pools[self._bucket(index)].append(index)
        parts = {
            bucket: iter(self._parts(pool, sizes.pop(bucket, [pool]), shrink))
            for bucket, pool in pools.items()
        }
        for bucket in buckets:
            yield from islice(parts.get(bucket, iter(())), 1)
        yield from chain.from_iterable(parts.values())  # of indices whose bucket no batch began with

    def scales(
        self, user_batches: Sequence[list[int]], batches: Sequence[list[int]], num_samples: int
    ) -> FloatArray | None:
        """What weights are multiplied by, so that samples count in their steps as in the user's batches.

        In the mean of a batch each sample counts as one by the batch's size. Buckets of which more is
        left out have smaller batches, and would count more than on full data.

        Args:
            user_batches: The user's batches of an epoch.
            batches: What the epoch trains in their place.
            num_samples: N.

        Returns:
            float32 (N,): by bucket, or by sample where a budget makes a batch's size depend on its
            samples; None where batches differ by chance alone.
        """
        if self.is_plain:
            return None
        drawn = np.fromiter(chain.from_iterable(user_batches), np.int64)
        kinds = np.arange(num_samples)
        if self._by_bucket:
            numbers: defaultdict[Hashable, int] = defaultdict(lambda: len(numbers))
            kinds[drawn] = [numbers[self._bucket(index)] for index in drawn.tolist()]
        full, now = (_mean_shares(each, kinds) for each in (user_batches, batches))
        scales: FloatArray = (full / np.where(now > 0, now, 1))[kinds].astype(np.float32)
        return scales

    def watched(self, batches: Iterable[list[int]], source: object) -> Iterator[list[int]]:
        """Pass on the user's batches; refuse what is above the budget, warn where none is given."""
        sizes: Counter[int] = Counter()
        for batch in batches:
            if len(batch) > 1 and self._price(batch) > self._most:
                raise ValueError(
                    f"a batch of {len(batch)} samples of {type(source).__name__} costs "
                    f"{self._price(batch):.9g}, and max_cost is {self._max_cost:.9g}; give the budget "
                    "that it keeps to, with cost= in the same unit (where batches are padded, a padded "
                    "length)"
                )
            if not self._knows_sizes:
                sizes[len(batch)] += 1
                if sizes.total() - sizes[max(sizes)] > 1:  # one may be the last, a short one
                    self._warn_of_sizes(source)
            yield batch

    def _warn_of_sizes(self, source: object) -> None:
        self._knows_sizes = True  # told once
        warn_user(
            f"the batches of {type(source).__name__} vary in size. If they keep to a budget of tokens "
            "or pixels, batches that are filled up again after pruning may exceed it: give max_cost= "
            "and cost=, or max_cost=math.inf if there is none; if samples of a kind share a batch, "
            "give bucket="
        )

    def _price(self, indices: Sequence[int]) -> float:
        return len(indices) if self._most == math.inf else sum(map(self._costs, indices))

    def _parts(
        self, indices: Sequence[int], batches: Sequence[list[int]], shrink: ShrinkBatches
    ) -> list[list[int]]:
        """Batches of ``indices`` in proportion to the cost of the user's."""
        costs = np.array([self._costs(index) for index in indices], np.float64)
        shares = np.array([sum(map(self._costs, batch)) for batch in batches], np.float64)
        leasts = np.array([min(shrink.smallest, len(batch)) for batch in batches])
        ends = proportional_ends(costs, shares, leasts, self._most, shrink.multiple)
        return [list(indices[begin:end]) for begin, end in pairwise([0, *ends.tolist()])]


class _Pool:
    """Samples on their way to a full batch; the last full one is held, to fill up the rest.

    Args:
        most: The most that a batch may cost.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._largest = 0  # of the user's batches
        self._held: list[int] = []
        self._batch: list[int] = []
        self._costs: list[float] = []  # of the samples held, then of those in the batch
        self._cost = 0.0  # of the batch
        self._waiting: list[tuple[int, float]] = []  # did not fit into a batch that has too few

    def add(self, index: int, cost: float, size: int, least: int) -> Iterator[list[int]]:
        """Take in a sample; batches that are full, of ``size`` samples, come out."""
        self._largest = max(self._largest, size)
        while self._batch and self._cost + cost > self._most:  # again, with those that waited
            if len(self._batch) < least:
                self._waiting.append((index, cost))
                return
            yield from self._close(size, least)
        self._batch.append(index)
        self._costs.append(cost)
        self._cost += cost
        if len(self._batch) >= size:
            yield from self._close(size, least)

    def rest(self, least: int) -> Iterator[list[int]]:
        """What is left at the end of an epoch."""
        while self._waiting:
            yield from self._close(self._largest, least)
        num_held, both = len(self._held), self._held + self._batch
        missing = least - len(self._batch)
        if self._batch and missing > 0 and self._held:
            if len(both) <= self._largest and sum(self._costs) <= self._most:
                num_held = 0  # one batch holds both
            elif num_held - missing >= least and sum(self._costs[num_held - missing :]) <= self._most:
                num_held -= missing
        yield from filter(None, (both[:num_held], both[num_held:]))

    def _close(self, size: int, least: int) -> Iterator[list[int]]:
        if self._held:
            yield self._held
        self._costs = self._costs[len(self._held) :]
        self._held, self._batch, self._cost = self._batch, [], 0.0
        waiting, self._waiting = self._waiting, []
        for index, cost in waiting:
            yield from self.add(index, cost, size, least)


def _mean_shares(batches: Sequence[list[int]], kinds: IndexArray) -> np.ndarray:
    """One by the size of its batch, the mean over the draws of each kind; 0 for a kind without any."""
    sizes = np.array([len(batch) for batch in batches if batch], np.int64)
    drawn = kinds[np.fromiter(chain.from_iterable(batches), np.int64)]
    sums = np.bincount(drawn, np.repeat(1 / sizes, sizes), minlength=len(kinds))
    return sums / np.maximum(np.bincount(drawn, minlength=len(kinds)), 1)


def _as_function(cost: Cost | None) -> Callable[[int], float]:
    if cost is None:
        return lambda index: 1.0
    if callable(cost):
        return lambda index: float(cost(index))
    numbers = cost.detach().cpu().double() if isinstance(cost, Tensor) else cost
    return np.asarray(numbers, np.float64).__getitem__
