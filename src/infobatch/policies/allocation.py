"""Keep probabilities that follow a size, between a floor and a cap, and have a given sum."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from infobatch.scores.columns import FloatArray, IndexArray

SMALLEST = 1e-9
"""Sizes below this part of the largest are taken for it."""
HALVINGS = 50


def check_floor(floor: float) -> None:
    if not 0 < floor <= 1:
        raise ValueError(
            f"floor is {floor}; it is a share of the mean keep probability, above 0 (or samples would "
            "never be seen again) and at most 1 (where all are alike)"
        )


def check_column(by: str, columns: tuple[str, ...]) -> None:
    if by not in columns:
        raise ValueError(f"by is {by!r}; choose what the probabilities follow: {', '.join(columns)}")


def check_strata(strata: object) -> None:
    if not isinstance(strata, Integral) or not 2 <= int(strata) <= 200:
        raise ValueError(f"strata is {strata!r}; it must be a whole number from 2 to 200")


def sizes_of(values: FloatArray) -> np.ndarray:
    """The ``values`` (N,) as sizes, float64: at least 0, and the largest where there is none (NaN)."""
    sizes = values.astype(np.float64)
    largest = np.max(sizes, initial=0, where=~np.isnan(sizes))
    known: np.ndarray = np.clip(np.nan_to_num(sizes, nan=largest), 0, None)
    return known


def allocate(
    sizes: np.ndarray, total: int, floor: float, counts: np.ndarray | int = 1, cap: float = 1.0
) -> np.ndarray:
    """Probabilities clip(c * sizes, floor * mean, cap), float64 (n,), that sum to ``total``.

    ``sizes``: (n,), at least 0; all alike if none is above 0. ``counts``: how many samples each stands
    for. ``floor``: a share of the mean probability, total / (the number of samples), which is at most
    ``cap``. c is found by bisection.
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


def whole(shares: np.ndarray, total: int, counts: IndexArray) -> IndexArray:
    """Whole numbers near ``shares`` (n,), between 1 and ``counts`` (0 where that is), that sum to total.

    By largest remainders.
    """
    numbers = np.clip(np.floor(shares + 1e-9), np.minimum(counts, 1), counts).astype(np.int64)
    missing = total - int(numbers.sum())
    step = 1 if missing > 0 else -1
    order = np.argsort(-step * (shares - numbers), kind="stable")
    while missing:
        for i in order:
            if missing and np.minimum(counts[i], 1) <= numbers[i] + step <= counts[i]:
                numbers[i] += step
                missing -= step
    return numbers


def root_mean_square(values: FloatArray, strata: np.ndarray, num_strata: int) -> np.ndarray:
    """Of the ``values`` (N,) in each stratum, float64 (num_strata,); NaN is passed over, 0 for none."""
    known = ~np.isnan(values)
    numbers = np.bincount(strata[known], minlength=num_strata)
    squares = np.bincount(
        strata[known], weights=values[known].astype(np.float64) ** 2, minlength=num_strata
    )
    means: np.ndarray = np.sqrt(squares / np.maximum(numbers, 1))
    return means
