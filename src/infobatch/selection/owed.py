"""The samples that are owed most of visits, at even distances over the epochs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from infobatch.chunks import chunks
from infobatch.policies.base import KeepProbabilities
from infobatch.seeding import permutation
from infobatch.selection.selection import Selection

NUM_BINS = 1 << 12
"""Bins in which the visits owed are counted, to find the bound between samples chosen and others."""


def draw_owed(keep: KeepProbabilities, credit: Tensor, generator: torch.Generator) -> Selection:
    """Select the samples that are owed most: each epoch adds a keep probability, a visit takes off 1.

    The first draw is a systematic one over a random order. A sample's phase in it becomes its credit, so
    that exactly the samples owed 1 or more are selected. Later draws do the same, as far as their number
    is the one asked for: the next epochs make up for the error of one (error diffusion).
    """
    probabilities = keep.probabilities
    if keep.total(probabilities != 1) == 0:
        return Selection(Selection.full(len(credit)).weights, len(credit), credit)
    num_selected = round(keep.total(probabilities))
    owed = _owed_before(keep, credit, generator)
    certain = np.empty(len(credit), bool)
    for part in chunks(len(credit)):
        chances = keep.each(probabilities, part).numpy()
        owed[part] += chances
        certain[part] = chances >= 1
    chosen = _highest(owed, certain, num_selected, generator)
    del certain
    owed -= chosen
    left = torch.from_numpy(owed.astype(np.float32))
    del owed  # 8 bytes a sample
    weights = np.zeros(len(credit), np.float32)
    for part in chunks(len(credit)):
        chances = keep.each(probabilities, part).numpy()
        np.divide(1, chances, out=weights[part], where=chosen[part])
    return Selection(torch.from_numpy(weights), num_selected, left)


def _owed_before(keep: KeepProbabilities, credit: Tensor, generator: torch.Generator) -> np.ndarray:
    """What samples are owed before the epoch, float64 (N,): their phase if they have no credit."""
    known = ~credit.isnan().numpy()
    owed = np.empty(len(credit)) if known.all() else _phases(keep, len(credit), generator)
    np.copyto(owed, credit.numpy(), where=known)
    return owed


def _highest(owed: np.ndarray, certain: np.ndarray, num: int, generator: torch.Generator) -> np.ndarray:
    """Which ``num`` samples are ``owed`` (N,) most, bool (N,); of equal ones a random part.

    Those that are ``certain`` (N,) are owed a visit in each epoch, and come first. They are the same on
    every processor, whichever way it partitions.
    """
    missing = num - int(np.count_nonzero(certain))
    assert missing > 0  # else no probability would be 1: all would share the cut
    bound = _nth_highest(owed, ~certain, missing)
    chosen: np.ndarray = owed > bound
    chosen |= certain
    equal = np.flatnonzero((owed == bound) & ~certain)
    order = permutation(len(equal), generator).numpy()
    chosen[equal[order[: num - np.count_nonzero(chosen)]]] = True
    return chosen


def _nth_highest(values: np.ndarray, among: np.ndarray, n: int) -> float:
    """The ``n``-th highest, from 1, of the ``values`` (N,) ``among`` which it is, bool (N,).

    By counts in bins, of which only the one that it lies in is put in order: without a copy of all.
    """
    low = values.min(initial=np.inf, where=among)
    width = values.max(initial=-np.inf, where=among) - low
    if width == 0:
        return float(low)

    def bins_of(part: slice) -> np.ndarray:  # rising with the values, as rounding is
        bins: np.ndarray = ((values[part] - low) * (NUM_BINS / width)).clip(0, NUM_BINS).astype(np.int32)
        return bins

    counts = np.zeros(NUM_BINS + 1, np.int64)
    for part in chunks(len(values)):
        counts += np.bincount(bins_of(part)[among[part]], minlength=NUM_BINS + 1)
    at_least = counts[::-1].cumsum()[::-1]  # in each bin and those above
    place = int(np.flatnonzero(at_least >= n)[-1])
    parts = chunks(len(values))
    of_bin = np.concatenate([values[part][among[part] & (bins_of(part) == place)] for part in parts])
    rank = at_least[place] - n  # from the lowest of the bin
    return float(np.partition(of_bin, rank)[rank])


def _phases(keep: KeepProbabilities, num_samples: int, generator: torch.Generator) -> np.ndarray:
    """Distance of each sample from the next point of a systematic draw, uniform in (0, 1], (N,)."""
    order = permutation(num_samples, generator)
    start = torch.rand(1, generator=generator, dtype=torch.float64)
    phases, begin = np.empty(num_samples), torch.zeros_like(start)
    for part in chunks(num_samples):
        lengths = keep.each(keep.probabilities, order[part])
        ends = torch.cat([begin, lengths]).cumsum(0)[1:]
        phases[order[part].numpy()] = 1 - (start - (ends - lengths)) % 1
        begin = ends[-1:]
    return phases
