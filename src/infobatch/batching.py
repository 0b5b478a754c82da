"""How samples become batches, so that steps can be counted before they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Literal

import numpy as np

from infobatch.scores.columns import IndexArray


@dataclass(frozen=True)
class ShrinkBatches:
    """What pruning shrinks: a pruned epoch has as many batches as full data has, each of them smaller.

    The samples are spread evenly over the batches, and weights have mean one, so that each step is an
    unbiased estimate of the same gradient as on full data. Step counts and schedules stay as they were.

    Args:
        least: Fewest samples in a batch on each rank, at least 1. The default, 2, is the fewest that
            batch norm takes.
        multiple: Batches have a multiple of so many samples on each rank, at least 1; for code that is
            compiled anew for each size. The batch size has to be one, too.

    Raises:
        ValueError: For numbers that are not whole, or below 1.
    """

    least: int = 2
    multiple: int = 1

    def __post_init__(self) -> None:
        for name in ("least", "multiple"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a whole number, at least 1")

    @property
    def smallest(self) -> int:
        """The fewest samples that a batch can have on each rank: a multiple of at least the least."""
        return -(-self.least // self.multiple) * self.multiple


Shrink = Literal["steps", "batches"] | ShrinkBatches
"""What pruning shrinks: the number of steps, or the batches; :class:`ShrinkBatches` has its options."""


def shrink_of(shrink: object) -> ShrinkBatches | None:
    """How batches shrink; None where it is the number of steps that does."""
    if shrink == "steps":
        return None
    if shrink == "batches":
        return ShrinkBatches()
    if not isinstance(shrink, ShrinkBatches):
        raise ValueError(
            f"shrink is {shrink!r}; choose 'steps' (fewer batches), 'batches' (smaller ones), or give "
            "ShrinkBatches(least=..., multiple=...)"
        )
    return shrink


SMALLEST_LAST = 2
"""Fewest samples in the last batch of a pruned epoch, where full data has as many."""


@dataclass(frozen=True)
class Batching:
    """The shape of an epoch's batches.

    Args:
        batch_size: Samples in a batch of each rank; the mean, where batches differ in size.
        drop_last: Whether a last batch that is not full is dropped.
        num_replicas: Ranks that train one model together.
        user_length: Where the user's own sampler orders the epoch, the indices that it gives on this
            rank in an epoch on full data; None for the library's own order.
    """

    batch_size: float
    drop_last: bool = False
    num_replicas: int = 1
    user_length: int | None = None

    @property
    def has_user_order(self) -> bool:
        """Whether the user's own sampler orders the epoch."""
        return self.user_length is not None

    @property
    def described(self) -> str:
        """Its batches, in words."""
        dropped = ", the last short one dropped" * self.drop_last
        given = "" if self.user_length is None else f" of {self.user_length:,} indices"
        return f"batches of {self.batch_size:g}{given}{dropped}"

    @property
    def global_batch_size(self) -> float:
        """Samples that all ranks together train in one step."""
        return self.batch_size * self.num_replicas

    @property
    def multiple(self) -> int:
        """Pruned epochs keep a multiple of this many samples, so that no last batch is dropped."""
        return int(self.global_batch_size) if self.drop_last and not self.has_user_order else 1

    def last_batch(self, num_samples: int) -> LastBatch | None:
        """What the last batch of a pruned epoch may be, so that none has a single sample.

        None where a last batch is dropped, where the user's own sampler orders the epoch, and where full
        data has such batches, too. The number of ranks has no say in it.
        """
        size = self.global_batch_size
        if self.drop_last or self.has_user_order or size < SMALLEST_LAST or num_samples % size == 1:
            return None
        return LastBatch(int(size), SMALLEST_LAST)

    def num_rounds(self, num_samples: int, full_length: int) -> int:
        """How many draws each rank has of ``num_samples`` that the ranks share.

        They are one more, of repeats, where the last batch of each rank would be a single sample, and is
        not on full data.
        """
        rounds, full_rounds = (-(-number // self.num_replicas) for number in (num_samples, full_length))
        return self.filled_up(rounds, full_rounds)

    def filled_up(self, rounds: int, full_rounds: int) -> int:
        """The draws of each rank of several, with one more where :meth:`num_rounds` tells."""
        if self.num_replicas == 1 or self.drop_last or self.has_user_order:
            return rounds
        ends_in_one = self.batch_size > 1 and rounds % self.batch_size == 1
        return rounds + (ends_in_one and full_rounds % self.batch_size != 1)

    def full_length(self, num_samples: int) -> int:
        """Draws on all ranks in an epoch on full data."""
        return num_samples if self.user_length is None else self.user_length * self.num_replicas

    def num_trained(self, num_samples: int, num_before: int = 0) -> int:
        """How many of ``num_samples`` are trained: all, less a last batch that is dropped.

        Of them ``num_before`` were trained in batches that may have been of another size.
        """
        num_left = max(0, num_samples - num_before)
        return num_samples - num_left % self.multiple

    def num_steps(self, num_samples: int) -> int:
        """Steps that ``num_samples`` take, the last one perhaps with a short batch."""
        steps = num_samples / self.global_batch_size
        return math.floor(steps) if self.drop_last else math.ceil(steps - 1e-9)


@dataclass(frozen=True)
class LastBatch:
    """What the last, short batch of an epoch may be, where full data has none of a single sample.

    Args:
        batch_size: Samples in the other batches, on all ranks.
        least: Fewest samples in the last one, on all ranks.
    """

    batch_size: int
    least: int

    def nearest(self, count: int, num_samples: int) -> int:
        """The number from ``count`` to ``num_samples`` that leaves no smaller last batch; else below."""
        whole, rest = count // self.batch_size * self.batch_size, count % self.batch_size
        if rest >= self.least or (whole and not rest):
            return count
        filled = whole + self.least  # not less, for a policy may keep some samples for sure
        return whole if whole and filled > num_samples else filled


@dataclass(frozen=True)
class EpochSizes:
    """How many samples a pruned epoch may keep.

    Args:
        multiple: A multiple of this, at least 1: the samples of a step, where a last short batch is
            dropped.
        least: No fewer than this, at least 1: enough for batches that shrink.
        last: What the last batch may be; None if anything.
    """

    multiple: int = 1
    least: int = 1
    last: LastBatch | None = None

    @property
    def smallest(self) -> int:
        """The smallest multiple that is not below the least."""
        return -(-self.least // self.multiple) * self.multiple

    def at_least(self, least: int) -> EpochSizes:
        """Those that are not below ``least``, too."""
        return replace(self, least=max(self.least, least))

    def in_groups_of(self, size: int) -> EpochSizes:
        """How many groups of ``size`` samples may be kept."""
        multiple, least = self.multiple // math.gcd(self.multiple, size), -(-self.least // size)
        return EpochSizes(multiple, least, self.last if size == 1 else None)

    def nearest(self, count: int, num_samples: int) -> int:
        """The number nearest to ``count``, up to ``num_samples``."""
        nearest = max((count + self.multiple // 2) // self.multiple * self.multiple, self.smallest)
        nearest = min(nearest, num_samples // self.multiple * self.multiple)
        return nearest if self.last is None else self.last.nearest(nearest, num_samples)


ANY_SIZE = EpochSizes()
"""Where nothing is asked of the number of samples."""


def even_ends(num_draws: int, num_batches: int, multiple: int = 1, least: int = 1) -> IndexArray:
    """Where each of some batches ends if draws are spread evenly over them, int64 (num_batches,).

    Sizes differ by at most ``multiple``, of which all but perhaps the last are multiples. Where batches
    would have fewer than ``least`` draws there are fewer of them.
    """
    num_batches = min(num_batches, max(num_draws // least, min(num_draws, 1)))
    units = -(-num_draws // multiple)
    ends: IndexArray = -(-np.arange(1, num_batches + 1) * units // num_batches) * multiple
    return np.minimum(ends, num_draws)


def regular_ends(num_draws: int, batch_size: int) -> IndexArray:
    """Where batches of one size end, the last perhaps a short one, int64."""
    ends = np.arange(batch_size, num_draws + batch_size, batch_size)
    return np.minimum(ends, num_draws)


@dataclass(frozen=True)
class BatchEnds:
    """Where the batches of an epoch end in the draws of each rank.

    Args:
        whole: The ends in rising order, int64.
        least: Fewest samples in a batch, where no batch of the whole epoch has fewer.
    """

    whole: IndexArray
    least: int

    def left(self, num_left: int) -> IndexArray:
        """The ends where the last ``num_left`` draws are still to be trained, from the first of those.

        A first batch of fewer than the least, which another batch size or number of ranks may leave,
        takes the missing ones from the next, or becomes part of it where that has none to spare.
        """
        if len(self.whole) == 0:
            return self.whole
        left: IndexArray = self.whole - (self.whole[-1] - num_left)
        left = left[left > 0]
        least = min(self.least, int(np.diff(self.whole, prepend=0).min()))
        if len(left) < 2 or left[0] >= least:
            return left
        if left[1] < 2 * least:
            return left[1:]
        left[0] = least
        return left
