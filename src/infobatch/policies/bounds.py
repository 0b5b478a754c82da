"""Strata as bounds on the score, for sharded scores, which no rank sees all of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from infobatch.scores.columns import FloatArray


@dataclass(frozen=True)
class Bound:
    """A bound between two strata.

    Args:
        value: Samples with a lower score lie below the bound. A sample without a score counts as having
            an infinite one.
        share: The share, in [0, 1], of the samples with just this score that lie below it, too. Which
            ones is random.
    """

    value: float
    share: float = 0.0


@dataclass(frozen=True)
class ScoreBounds:
    """Strata 0..S-1 as bounds on the score, and their keep probabilities.

    A sample's stratum is the number of bounds that it does not lie below.

    Args:
        bounds: The S - 1 bounds between the strata, in rising order.
        probabilities: The keep probability of each of the S strata, in (0, 1].
    """

    bounds: Sequence[Bound]
    probabilities: Sequence[float]

    def strata(self, losses: FloatArray, generator: torch.Generator) -> np.ndarray:
        """Find each sample's stratum.

        Args:
            losses: The scores, (n,); NaN for a sample without one.
            generator: Decides which of the samples on a bound lie below it.

        Returns:
            uint8 (n,).
        """
        scores = np.where(np.isnan(losses), np.float32(np.inf), losses)
        strata = np.zeros(len(scores), np.uint8)
        places: dict[float, torch.Tensor] = {}
        for bound in self.bounds:
            value = np.float32(bound.value)
            not_below = ~(scores < value)
            if bound.share > 0:
                equal = np.flatnonzero(scores == value)
                # Bounds with the same value use the same random places.
                if bound.value not in places:
                    start = torch.rand(1, generator=generator, dtype=torch.float64)
                    order = torch.randperm(len(equal), generator=generator)
                    places[bound.value] = (order + start) / max(1, len(equal))
                not_below[equal[(places[bound.value] < bound.share).numpy()]] = False
            strata += not_below
        return strata


def pooled(by_score: ScoreBounds) -> ScoreBounds:
    """The single stratum that stands for all strata while no sample has a score.

    Its keep probability is the mean over all samples. The ranks then need not ask each other how many
    samples lie in which stratum.

    Args:
        by_score: Strata whose bounds between samples without a score have the value infinity.
    """
    shares = [bound.share if bound.value == np.inf else 0.0 for bound in by_score.bounds]
    widths = np.diff([0.0, *shares, 1.0])
    return ScoreBounds([], [float(widths @ by_score.probabilities)])


class ScoreSummary(Protocol):
    """What is known about the scores of all N samples together.

    The scores lie on several ranks, so that each attribute and each call is a collective operation.
    """

    @property
    def num_samples(self) -> int:
        """N."""
        ...

    @property
    def num_scored(self) -> int:
        """The number of samples that have a score."""
        ...

    @property
    def mean(self) -> float:
        """The mean of all scores, rounded as in :func:`mean_score`; NaN if there are none."""
        ...

    def bounds_at(self, ranks: Sequence[int]) -> list[Bound]:
        """The bounds below which exactly so many samples lie.

        Args:
            ranks: Those numbers, each from 0 to N. Samples without a score rank last.
        """
        ...
