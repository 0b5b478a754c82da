"""Keep probabilities that are proportional to a size, between a floor and a cap, with a given sum."""

from __future__ import annotations

import numpy as np

from infobatch.chunks import chunks
from infobatch.policies.calibration import Moments
from infobatch.scores.columns import FloatArray, IndexArray

SMALLEST = 1e-9
"""Sizes below this part of the largest are raised to it."""
HALVINGS = 50


def sizes_of(values: FloatArray) -> np.ndarray:
    """The ``values`` (N,) as sizes of at least 0, float64 (N,); NaN becomes the largest size."""
    sizes = values.astype(np.float64)
    largest = np.max(sizes, initial=0, where=~np.isnan(sizes))
    known: np.ndarray = np.clip(np.nan_to_num(sizes, nan=largest), 0, None)
    return known


def allocate(
    sizes: np.ndarray, total: int, floor: float, counts: np.ndarray | int = 1, cap: float = 1.0
) -> np.ndarray:
    """Probabilities clip(c * sizes, floor * mean, cap) that sum to ``total``; c is found by bisection.

    Args:
        sizes: (n,), at least 0. If none is above 0, all probabilities are equal.
        total: The sum of the probabilities, each of them taken as often as ``counts`` says.
        floor: The least probability, as a share of the mean one, in (0, 1].
        counts: How many samples each probability stands for, (n,).
        cap: The largest probability; at least the mean one.

    Returns:
        float64 (n,).
    """
    counts = np.broadcast_to(counts, sizes.shape)
    lowest = floor * total / counts.sum()
    largest = sizes.max(initial=0, where=counts > 0)
    sizes = np.maximum(sizes / largest, SMALLEST) if largest > 0 else np.ones(len(sizes))
    low, high = np.log(lowest), -np.log(SMALLEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if counts @ np.clip(np.exp(middle) * sizes, lowest, cap) < total:
            low = middle
        else:
            high = middle
    kept: np.ndarray = np.clip(np.exp(high) * sizes, lowest, cap)
    return kept


def within_budget(moments: Moments, counts: np.ndarray, max_noise: float, floor: float) -> np.ndarray:
    """Probabilities clip(c sqrt(m), floor, 1) of strata that leave out most within a budget of noise.

    The noise is the sum of n m / p over that of n m, for n samples of mean squared norm m in a stratum;
    the standard error of its excess over 1 is added to it. c is found by bisection.

    Args:
        moments: m of each stratum, (S,).
        counts: n of each, (S,).
        max_noise: The budget, above 1.
        floor: The least probability, in (0, 1].

    Returns:
        float64 (S,), in [floor, 1]; all 1 where there is no gradient.
    """
    means, filled = moments.means, counts > 0
    total = float(counts @ means)
    if total <= 0:
        return np.ones(len(means))
    sizes = np.sqrt(means / means[filled].max())
    low, high = np.log(floor), -np.log(np.maximum(sizes[filled].min(), SMALLEST))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        excess = counts * (1 / np.clip(np.exp(middle) * sizes, floor, 1) - 1)
        errors = np.bincount(moments.blocks, excess * moments.errors)
        if excess @ means + np.sqrt(errors @ errors) > (max_noise - 1) * total:
            low = middle
        else:
            high = middle
    kept: np.ndarray = np.clip(np.exp(high) * sizes, floor, 1)
    return kept


def whole(shares: np.ndarray, total: int, counts: IndexArray) -> IndexArray:
    """Whole numbers near ``shares`` that sum to ``total``, by the method of largest remainders.

    Args:
        shares: (n,).
        total: Their sum once they are whole.
        counts: The largest number for each, (n,). The least is 1, or 0 where the largest is 0.

    Returns:
        int64 (n,).
    """
    if not np.count_nonzero(counts) <= total <= counts.sum():
        raise ValueError(
            f"{total:,} samples cannot be drawn of {np.count_nonzero(counts)} strata with "
            f"{counts.sum():,} samples, at least one of each"
        )
    numbers = np.clip(np.floor(shares + 1e-9), np.minimum(counts, 1), counts).astype(np.int64)
    missing = total - int(numbers.sum())
    step = 1 if missing > 0 else -1
    order = np.argsort(-step * (shares - numbers), kind="stable")
    limits = counts if step > 0 else np.minimum(counts, 1)
    while missing:
        changed = order[numbers[order] != limits[order]][: abs(missing)]
        numbers[changed] += step
        missing -= step * len(changed)
    return numbers


def root_mean_square(values: FloatArray, strata: np.ndarray, num_strata: int) -> np.ndarray:
    """The root mean square of the ``values`` (N,) in each stratum, float64 (num_strata,).

    NaN is passed over, and a negative value, which is no size, counts as 0; a stratum without a value
    has 0.
    """
    numbers, squares = np.zeros((2, num_strata))
    for part in chunks(len(values)):
        known = ~np.isnan(values[part])
        places = strata[part][known].astype(np.int64)
        sizes = values[part][known].astype(np.float64).clip(min=0)
        numbers += np.bincount(places, minlength=num_strata)
        np.add.at(squares, places, sizes**2)
    means: np.ndarray = np.sqrt(squares / np.maximum(numbers, 1))
    return means
