"""Strata by score alone, for ranks of which none sees all scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from infobatch.scores.columns import FloatArray


@dataclass(frozen=True)
class Bound:
    """Samples with a score below ``value`` lie below it, and of those equal to it a random ``share``.

    A sample without a score counts as having an infinite one.
    """

    value: float
    share: float = 0.0


@dataclass(frozen=True)
class ScoreBounds:
    """Strata 0..S-1 by score: a sample's stratum is the number of ``bounds`` that it does not lie below.

    ``bounds``: S - 1, rising. ``probabilities``: S, each the probability in (0, 1] with which its
    samples are kept.
    """

    bounds: Sequence[Bound]
    probabilities: Sequence[float]

    def strata(self, losses: FloatArray, generator: torch.Generator) -> np.ndarray:
        """The stratum of each sample, uint8 (n,), of ``losses`` (n,), NaN without a score."""
        scores = np.where(np.isnan(losses), np.float32(np.inf), losses)
        strata = np.zeros(len(scores), np.uint8)
        places: dict[float, torch.Tensor] = {}
        for bound in self.bounds:
            value = np.float32(bound.value)
            not_below = ~(scores < value)
            if bound.share > 0:
                equal = np.flatnonzero(scores == value)
                # One random place each, the same for all bounds that meet here.
                if bound.value not in places:
                    start = torch.rand(1, generator=generator, dtype=torch.float64)
                    order = torch.randperm(len(equal), generator=generator)
                    places[bound.value] = (order + start) / max(1, len(equal))
                not_below[equal[(places[bound.value] < bound.share).numpy()]] = False
            strata += not_below
        return strata


def pooled(by_score: ScoreBounds) -> ScoreBounds:
    """What strata come to while no sample has a score: one, in which all have the same chance.

    No rank then has to be asked how many samples lie in which.
    """
    shares = [bound.share if bound.value == np.inf else 0.0 for bound in by_score.bounds]
    widths = np.diff([0.0, *shares, 1.0])
    return ScoreBounds([], [float(widths @ by_score.probabilities)])


class ScoreSummary(Protocol):
    """What is known of the scores of all N samples together. Asking is a collective."""

    @property
    def num_samples(self) -> int: ...

    @property
    def num_scored(self) -> int: ...

    @property
    def mean(self) -> float:
        """Of the scores there are, as :func:`mean_score` has it; NaN if there are none."""
        ...

    def bounds_at(self, ranks: Sequence[int]) -> list[Bound]:
        """The bounds below which exactly that many samples lie, unscored ones ranking last."""
        ...
