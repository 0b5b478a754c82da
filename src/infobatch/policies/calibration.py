"""Strata of stale gradient norm, and what the norms of their samples will be when they are trained.

A stale norm misleads: samples thought learned come back with large gradients. How far it does is seen in
the samples that were just trained, of which both the norm before and the fresh one are known.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from infobatch.chunks import chunks
from infobatch.scores.columns import FloatArray

_BINS = 1 << 13
"""Norms are told apart by the exponent and the first 5 bits of their float32, to within 2 %."""

_UPPER_HALF = int(sys.byteorder == "little")


def _middles() -> np.ndarray:
    """The norm in the middle of each bin, float64; 0 for bins of infinite ones."""
    with np.errstate(invalid="ignore"):
        norms = (np.arange(_BINS, dtype=np.uint32) << 18 | 0x20000).view(np.float32).astype(np.float64)
    norms[0] = 0  # and not the smallest number
    return np.where(np.isfinite(norms), norms, 0.0)


MIDDLES = _middles()


@dataclass(frozen=True)
class Moments:
    """The mean squared norms of strata.

    Args:
        means: Estimates, (S,), rising.
        errors: The standard error of each, (S,).
        blocks: Which strata have an error in common, numbered from 0, (S,).
    """

    means: np.ndarray
    errors: np.ndarray
    blocks: np.ndarray

    @classmethod
    def exact(cls, means: np.ndarray) -> Moments:
        """Moments without an error, whose ``means`` have shape (S,)."""
        return cls(means, np.zeros(len(means)), np.arange(len(means)))


def strata_of_bins(counts: np.ndarray, num_strata: int) -> np.ndarray:
    """The stratum of each bin, uint8 (bins,): equal shares of samples and of norm, half of each.

    Strata are thus fine both where most samples are and where most of the norm is.

    Args:
        counts: The samples in each bin, or their weights, (bins,).
        num_strata: At most 255.
    """
    norms = counts * MIDDLES
    shares = counts / counts.sum() + norms / max(norms.sum(), sys.float_info.min)
    ends = np.cumsum(shares) * (num_strata / 2)
    middles = (np.concatenate([[0.0], ends[:-1]]) + ends) / 2
    return np.minimum(middles, num_strata - 1).astype(np.uint8)


def bins_of(norms: FloatArray) -> np.ndarray:
    """The bin of each norm, uint16 (n,); the sign does not count."""
    halves: np.ndarray = np.abs(norms, order="C").view(np.uint16)
    return halves[_UPPER_HALF::2] >> 2


def count_in_bins(norms: FloatArray) -> np.ndarray:
    """How many of the ``norms`` (n,) each bin has, int64 (bins,); NaN is passed over."""
    counts = np.zeros(_BINS, np.int64)
    for part in chunks(len(norms)):
        known = norms[part][~np.isnan(norms[part])]
        counts += np.bincount(bins_of(known), minlength=_BINS)
    return counts


def strata_of(norms: FloatArray, of_bins: np.ndarray, unknown: int) -> np.ndarray:
    """The stratum of each of the ``norms`` (n,), uint8 (n,), by that of its bin; ``unknown`` for NaN."""
    strata = np.empty(len(norms), np.uint8)
    for part in chunks(len(norms)):
        strata[part] = np.where(np.isnan(norms[part]), unknown, of_bins[bins_of(norms[part])])
    return strata


def guessed_moments(counts: np.ndarray, strata: np.ndarray, num_strata: int, regress: float) -> Moments:
    """Moments for the first pruned epoch, by stale norms alone.

    Args:
        counts: The samples in each bin, (bins,).
        strata: The stratum of each bin.
        num_strata: S.
        regress: The part of the mean of all that is mixed into each, in [0, 1].
    """
    sums = np.bincount(strata, counts * MIDDLES**2, num_strata)
    sizes = np.bincount(strata, counts, num_strata)
    means = (1 - regress) * sums / np.maximum(sizes, 1) + regress * sums.sum() / sizes.sum()
    return Moments.exact(means)


NUM_TIMES = 8
"""Parts of the first epoch, by time, whose norms are compared with those of the last part."""
LEAST_PART = 64
"""The fewest samples in a part."""
BY_CHANCE = 3
"""The standard errors by which the ranks of the last part may be off the mean with nothing learned."""


def as_seen_last(norms: FloatArray, times: np.ndarray) -> FloatArray:
    """The norms that samples would have had at the end of the epoch that has seen each of them once.

    A norm that was seen early is of a model that had learned less, and says how early rather than how
    hard. So a sample takes the norm of equal rank among those that were seen last, its rank being among
    the samples seen at about the same time.

    Args:
        norms: (N,), NaN where unknown.
        times: Which batch each is of, (N,).

    Returns:
        (N,), the ``norms`` themselves where they do not change with time, or are too few to say.
    """
    parts = _parts_by_time(times, ~np.isnan(norms))
    latest = int(parts.max(initial=0))
    last = np.sort(norms[parts == latest])
    if abs(_mean_rank(last, np.sort(norms[parts >= 0])) - 0.5) * np.sqrt(12 * len(last)) < BY_CHANCE:
        return norms
    moved = norms.copy()
    for number in range(latest):
        part = np.flatnonzero(parts == number)
        by_norm = part[np.argsort(norms[part], kind="stable")]
        moved[by_norm] = last[np.arange(len(part)) * len(last) // max(len(part), 1)]
    return moved


def _parts_by_time(times: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The part of each sample, numbered by time, int8 (N,), -1 for one that is not ``known``.

    Parts have about as many samples each. No batch is torn apart.
    """
    sizes = np.zeros(int(times.max(initial=0)) + 1, np.int64)
    for some in chunks(len(times)):
        sizes += np.bincount(times[some][known[some]], minlength=len(sizes))
    num_known = int(sizes.sum())
    num_parts = max(1, min(NUM_TIMES, num_known // LEAST_PART))
    part_of = ((np.cumsum(sizes) - sizes) * num_parts // max(num_known, 1)).astype(np.int8)
    parts: np.ndarray = part_of[times]
    parts[~known] = -1
    return parts


def _mean_rank(some: FloatArray, ordered: FloatArray) -> float:
    """The mean rank that ``some`` have among all, which are ``ordered``, in [0, 1]."""
    if len(some) == 0:
        return 0.5
    ranks = np.searchsorted(ordered, some) + np.searchsorted(ordered, some, "right")
    return float(ranks.mean() / (2 * len(ordered)))


class Trained:
    """The samples just trained, piece by piece: what they were selected by, fresh norms, and weights.

    Copies of all of them would take 12 bytes a sample. The fresh norms are divided by their largest, so
    that no power overflows.

    Args:
        norms: Of each sample the norm, or mean of norms, that it was selected by, and the norm that it
            had then, (N, 2); NaN where unknown.
        weights: One over the probability with which each was selected, 0 for one that was not, (N,).
            With None all count, with weight 1.
    """

    def __init__(self, norms: FloatArray, weights: FloatArray | None) -> None:
        self._norms, self._weights = norms, weights
        self._unit: float = 1
        self._unit = max((fresh.max(initial=0) for _, fresh, _ in self), default=0) or 1

    def __iter__(self) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
        for part in chunks(len(self._norms)):
            before, fresh = self._norms[part].T
            weights = np.ones_like(fresh) if self._weights is None else self._weights[part]
            trained = ~np.isnan(fresh) & (weights > 0)
            yield before[trained], fresh[trained] / np.float32(self._unit), weights[trained]

    @property
    def share_with_both(self) -> float:
        """The share of samples with a norm before in the sum of weights; 0 if none was trained."""
        with_both, of_all = 0.0, 0.0
        for before, _, weights in self:
            with_both += float(weights[~np.isnan(before)].sum(dtype=np.float64))
            of_all += float(weights.sum(dtype=np.float64))
        return with_both / of_all if of_all else 0.0


def calibrated_moments(
    trained: Iterable[tuple[FloatArray, FloatArray, FloatArray]], num_strata: int
) -> Moments:
    """Moments by what became of the samples that were just trained.

    They are cut into strata by the norms they had before, as the samples of the coming epoch are by
    theirs: of equal rank, not of equal norm, for norms fall as training goes on. The means are made to
    rise from stratum to stratum, by pooling where they do not.

    Args:
        trained: Pieces of the samples: the norms that they were selected by, (n,), NaN for one that had
            none, their norms when they were trained, (n,), and one over the probabilities with which
            they were selected, (n,).
        num_strata: S.
    """
    of_bins = np.zeros((3, _BINS))
    for piece in trained:
        before, fresh, weights = (values[~np.isnan(piece[0])] for values in piece)
        bins, squares = bins_of(before).astype(np.int64), np.square(fresh)
        weighted = weights * squares
        variance = (weighted + squares) * weighted
        for total, values in zip(of_bins, (weights, weighted, variance), strict=True):
            np.add.at(total, bins, values.astype(np.float64))
    strata = strata_of_bins(of_bins[0], num_strata)
    sizes, sums, variances = (np.bincount(strata, values, num_strata) for values in of_bins)
    # As if each stratum had one sample more, of the mean size, so that none is empty.
    means, blocks = _rising(sums + sums.sum() / sizes.sum(), sizes + 1)
    errors = np.sqrt(np.bincount(blocks, variances)) / np.bincount(blocks, sizes + 1)
    return Moments(means, errors[blocks], blocks)


def _rising(sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rising means nearest to sums / sizes, and the block of strata that each was pooled in.

    Source: the algorithm of adjacent violators, Ayer et al., 1955.
    """
    blocks: list[tuple[float, float, int]] = []
    for total, size in zip(sums.tolist(), sizes.tolist(), strict=True):
        length = 1
        while blocks and blocks[-1][0] * size >= total * blocks[-1][1]:
            before = blocks.pop()
            total, size, length = total + before[0], size + before[1], length + before[2]
        blocks.append((total, size, length))
    lengths = [length for *_, length in blocks]
    means = np.repeat([total / size for total, size, _ in blocks], lengths)
    return means, np.repeat(np.arange(len(blocks)), lengths)
