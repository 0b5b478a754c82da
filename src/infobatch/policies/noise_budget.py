"""As much left out as a budget of gradient noise allows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from infobatch.policies.allocation import allocate, whole, within_budget
from infobatch.policies.base import KeepProbabilities, Policy, Request, check_some_are_kept
from infobatch.policies.calibration import (
    Moments,
    Trained,
    as_seen_last,
    calibrated_moments,
    count_in_bins,
    guessed_moments,
    strata_of,
    strata_of_bins,
)
from infobatch.policies.options import check_column, check_kinds, set_fields, use_plain_numbers
from infobatch.scores.columns import FloatArray
from infobatch.scores.table import ScoreTable

NUM_STRATA = 32
REGRESS = 0.1
"""Part of the mean moment that is mixed into each stratum's before there is anything to calibrate by."""
USUAL = 1.1
"""The budget of those who name none, by which surprises are borne where a target takes its place."""
COLUMNS = {"gradient_norm": "recent_norms", "smoothed_norm": "smoothed_norms"}
"""The column of each ``by``: of a sample what it was selected by the last time, the norm that it had
then, and, where that is not the same, what it will be selected by."""
SURPRISE = 0.5
"""The share of the budget that a single sample with a surprisingly large gradient may use up."""


@dataclass(frozen=True, eq=False)
class NoiseBudget(Policy):
    """Leaves out as much as keeps the noise of a step within a budget, however much or little it is.

    A step of a pruned epoch, one of as many as on full data, has the second moment mean(g^2 / p), where
    full data has mean(g^2), for gradient norms g and keep probabilities p. Least is trained where p is
    proportional to g. Samples are cut into strata by the norm they had last, or its running mean. What
    the mean squared norm of each will be when it is trained is estimated from the epoch before: of its
    samples both what they were selected by and the fresh norm are known. The estimate's standard error
    counts as noise. Samples without a norm are kept.

    Norms are the signal ``gradient_norms`` of :meth:`DynamicPruner.update`; where that is not given they
    follow from the losses, as ``norms_from`` says.

    Args:
        max_noise: The budget, above 1: 1.1, the default, makes a step as noisy as one on full data with
            batches smaller by 1.1. 2 would be that of half the batch. None leaves it to a target how
            many samples are left out; the probabilities have the same proportions.
        floor: The least keep probability, in (0, 1]. Weights reach 1 / floor, and less where few samples
            carry most of the gradient.
        by: What the strata are cut by: gradient_norm, the norm of the last time, or smoothed_norm, its
            running mean, where a single norm tells little, as the spread of a few rewards.

    Source: optimum allocation for a given variance, Neyman, 1934; Cochran, *Sampling Techniques*,
    section 5.5. The calibration is this library's own.
    """

    max_noise: float | None = USUAL
    floor: float = 0.01
    by: str = "gradient_norm"
    columns: tuple[str, ...] = field(init=False, repr=False)

    shrinks = "batches"
    default_delta = 1.0
    estimates_norms = True
    takes_sizes = True

    def __post_init__(self) -> None:
        if self.max_noise is not None:
            set_fields(self, max_noise=_checked_budget(self.max_noise))
        check_kinds(self)
        if not 0 < self.floor <= 1:
            raise ValueError(
                f"floor is {self.floor}; it is the least keep probability, above 0 (or samples would "
                "never be seen again) and at most 1"
            )
        check_column(self.by, tuple(COLUMNS))
        use_plain_numbers(self)
        columns = (COLUMNS[self.by], "weight", "trained_at")
        set_fields(self, columns=columns, needs_target=self.max_noise is None)

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        norms: FloatArray = scores[COLUMNS[self.by]].numpy()
        selected_by = norms[:, -1]
        trained = Trained(norms[:, :2], scores["weight"].numpy())
        is_guess = trained.share_with_both < 0.5
        if is_guess:
            if np.isnan(norms[:, 0]).all():  # all samples were trained in one epoch at most
                selected_by = as_seen_last(selected_by, scores["trained_at"].numpy())
            trained = Trained(np.broadcast_to(selected_by[:, None], (len(norms), 2)), None)
        num_samples, num_strata = len(norms), NUM_STRATA
        if request.num_pruned is not None:  # at least one of each stratum is drawn
            num_kept = request.num_kept(num_samples, 0)
            if num_kept == 1:
                return KeepProbabilities.equal(1 / num_samples, num_samples)
            num_strata = min(num_strata, num_kept - 1)
        in_bins = count_in_bins(selected_by)
        counts = np.zeros(num_strata + 1, np.int64)  # the last stratum has no norms
        counts[-1] = num_samples - in_bins.sum()
        stratum_of = np.zeros(len(in_bins), np.uint8)
        moments, floor = Moments.exact(np.ones(num_strata)), self.floor
        if in_bins.any():
            stratum_of = strata_of_bins(in_bins, num_strata)
            counts[:-1] = np.bincount(stratum_of, in_bins, num_strata)
            known = None if is_guess else trained
            moments = self._moments(in_bins, stratum_of, num_strata, known)
            floor = max(floor, self._least(trained))
        probabilities = self._probabilities(moments, counts, floor, request, num_samples)
        strata = strata_of(selected_by, stratum_of, num_strata)
        return KeepProbabilities(torch.from_numpy(probabilities), torch.from_numpy(strata))

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_some_are_kept(num_pruned, num_samples)

    def _moments(
        self, in_bins: np.ndarray, stratum_of: np.ndarray, num_strata: int, trained: Trained | None
    ) -> Moments:
        """The strata's moments, by what became of the samples just ``trained`` where that is known."""
        if trained is None:
            return guessed_moments(in_bins, stratum_of, num_strata, REGRESS)
        return calibrated_moments(trained, num_strata)

    def _least(self, trained: Trained) -> float:
        """The least probability that a single surprise can be borne at."""
        spare = (self.max_noise or USUAL) - 1
        return 1 / (1 + math.sqrt(SURPRISE * spare * _num_carrying(trained)))

    def _probabilities(
        self, moments: Moments, counts: np.ndarray, floor: float, request: Request, num_samples: int
    ) -> np.ndarray:
        """The keep probability of each stratum, the one without norms last."""
        if request.num_pruned is None:
            assert self.max_noise is not None
            return np.append(within_budget(moments, counts[:-1], self.max_noise, floor), 1.0)
        num_kept = request.num_kept(num_samples, 0)
        largest = moments.means[counts[:-1] > 0].max(initial=0) or 1.0
        sizes = np.sqrt(np.append(moments.means, largest))
        shares = counts * allocate(sizes, num_kept, min(1.0, floor * num_samples / num_kept), counts)
        return np.where(counts > 0, whole(shares, num_kept, counts) / np.maximum(counts, 1), 1.0)


def _checked_budget(max_noise: object) -> float:
    if not isinstance(max_noise, (int, float, np.number)) or isinstance(max_noise, bool):
        raise TypeError(f"max_noise is {max_noise!r}; it must be a number, such as 1.1")
    if not 1 < max_noise < math.inf:
        raise ValueError(
            f"max_noise is {max_noise}; it is the noise of a step relative to one on full data, above 1 "
            "(at 1 nothing could be left out), such as 1.1"
        )
    return float(max_noise)


def _num_carrying(trained: Trained) -> float:
    """How many samples carry the gradient: one more, met at weight w, adds a part w / that of it."""
    total, fourth = 0.0, 0.0
    for _, fresh, weights in trained:
        squares = np.square(fresh, dtype=np.float64)
        moments = weights * squares
        total += float(moments.sum())
        fourth += float(moments @ squares)
    return total**2 / fourth if fourth > 0 else math.inf
