"""Where batches end that share out samples in proportion to other batches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from infobatch.scores.columns import IndexArray

DoubleArray = np.ndarray[Any, np.dtype[np.float64]]

_ROUNDING = 1e-9
"""By how much of itself a sum of costs may be off."""


def proportional_ends(
    costs: DoubleArray,
    shares: DoubleArray,
    leasts: IndexArray,
    most: float = math.inf,
    multiple: int = 1,
) -> IndexArray:
    """Where batches end if samples, in their order, are shared out in proportion to the cost of others.

    There is one for each of the others, also where a few costly samples would be all of its share: it
    has its least, and the next ones have fewer. They are fewer batches where the samples do not suffice
    for that, and more where the budget asks for it. It goes before the least: of samples of which no two
    are within it each is a batch.

    Args:
        costs: What each sample costs, at least 0, float64 (n,), n > 0.
        shares: What each of the other batches costs, at least 0, float64 (K,), K > 0.
        leasts: The fewest samples that each batch has, int64 (K,).
        most: The most that a batch may cost, unless it is of one sample.
        multiple: All batches but the last have a multiple of so many samples, within the budget.

    Returns:
        The ends in rising order, int64; the last is n.
    """
    if not costs.any() or not shares.any():
        costs, shares = np.ones_like(costs), np.ones_like(shares)
    num, prices, whole = len(costs), np.cumsum(costs), np.cumsum(shares)
    wanted = whole * (prices[-1] / whole[-1])  # the cost up to the end of each
    numbers = np.searchsorted(prices, wanted * (1 - _ROUNDING)) + 1
    numbers = np.minimum(_rounded_up(numbers, multiple), num)
    numbers[-1], last = num, int(leasts[-1])
    leasts = np.append(_rounded_up(leasts[:-1], multiple), last)
    following = leasts.sum() - leasts.cumsum()  # the least of all batches that follow
    ends = [0]
    for number, least, rest in zip(numbers.tolist(), leasts.tolist(), following.tolist(), strict=True):
        lowest = ends[-1] + least
        highest = (num - rest) // multiple * multiple if rest else num
        if lowest <= highest:
            end = min(max(number, lowest), highest)
        elif number >= lowest and (num == lowest or num - lowest >= last):
            end = lowest
        else:  # there are not enough for all, and so far too few for another
            continue
        ends.append(_within(prices, ends[-1], end, most, multiple))
    while ends[-1] < num:
        ends.append(_within(prices, ends[-1], num, most, multiple))
    if len(ends) > 2:
        _fill_up_last(ends, prices, last, most)
    return np.array(ends[1:])


def _rounded_up(numbers: IndexArray, multiple: int) -> IndexArray:
    return -(-numbers // multiple) * multiple


def _within(prices: DoubleArray, begin: int, end: int, most: float, multiple: int) -> int:
    """Where a batch from ``begin`` ends, at the latest at ``end``, that keeps to the budget."""
    if most == math.inf:
        return end
    spent = prices[begin - 1] if begin else 0.0
    fits = int(np.searchsorted(prices, spent + most, side="right"))
    if fits >= end:
        return end
    size = max(1, fits - begin)
    return begin + (size // multiple * multiple or size)


def _fill_up_last(ends: list[int], prices: DoubleArray, least: int, most: float) -> None:
    """Move samples to the last batch from the one before, if it has too few and the other can spare."""
    before, begin, num = ends[-3:]
    moved = num - least
    if before + least <= moved < begin and prices[-1] - prices[moved - 1] <= most:
        ends[-2] = moved
