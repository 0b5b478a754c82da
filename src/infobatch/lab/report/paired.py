"""Comparisons of two arms over the seeds that both have: differences, intervals, p-values."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from infobatch.lab.report.arms import CONFIDENCE, ArmRuns, Run, half_interval
from infobatch.lab.tasks.metrics import ACCURACY, Metric

ROUNDING = 1e-4
"""Differences that differ by a smaller share of the largest are equal, except for rounding."""
SAME = 1e-9
"""Results that differ by a smaller share are the same, except for rounding."""

SEEDS_FOR_SPREAD = 5
"""Of fewer seeds a spread is not known well enough to say that no number would do."""
MOST_SEEDS = 100
"""More seeds than this are not advised: the difference is then too near the margin to be told."""
TOO_FEW = "too few seeds to say"
TOO_NEAR = "too near the margin to say"


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences over seeds, and its 95 % t interval.

    Args:
        mean: The mean difference, in the metric's unit.
        low: The lower end of the interval.
        high: Its upper end.
        num_pairs: The number of seeds.
        metric: What the runs are judged by.
    """

    mean: float
    low: float
    high: float
    num_pairs: int
    metric: Metric = ACCURACY

    @classmethod
    def of(cls, ours: dict[int, Run], theirs: dict[int, Run]) -> Difference | None:
        """Ours minus theirs, over the seeds that both have; None without a common seed."""
        pairs = _differences(ours, theirs)
        return cls.of_pairs(pairs, next(iter(ours.values())).metric) if pairs else None

    @classmethod
    def of_pairs(cls, pairs: Sequence[float], metric: Metric = ACCURACY) -> Difference:
        """As :meth:`of`, of the differences of each seed, of which there is one at least."""
        mean = statistics.fmean(pairs)
        if len(pairs) == 1:
            return cls(mean, -math.inf, math.inf, 1, metric)
        half = 0.0 if _are_equal(pairs) else half_interval(pairs)
        return cls(mean, mean - half, mean + half, len(pairs), metric)

    @property
    def least_gain(self) -> float:
        """The end of the interval that is worse for us; positive if we are ahead for sure."""
        return min(self.metric.gain(self.low), self.metric.gain(self.high))

    @property
    def most_gain(self) -> float:
        """The end of the interval that is better for us; negative if we are behind for sure."""
        return max(self.metric.gain(self.low), self.metric.gain(self.high))

    @property
    def has_no_spread(self) -> bool:
        """Whether all seeds differ by the same, as where a few test samples decide.

        The interval then tells nothing of how other seeds would differ; only no difference in each of
        several seeds tells that others have none.
        """
        return self.low == self.high and (self.mean != 0 or self.num_pairs < SEEDS_FOR_SPREAD)

    @property
    def short(self) -> str:
        """The difference as a table's cell shows it."""
        return str(self).replace(" to ", "…")

    def __str__(self) -> str:
        if self.num_pairs == 1:
            return f"{self.metric.signed(self.mean)} (one seed)"
        low, high = self.metric.signed(self.low), self.metric.signed(self.high)
        return f"{self.metric.signed(self.mean)} ({low} to {high})"


def _differences(ours: dict[int, Run], theirs: dict[int, Run]) -> list[float]:
    """Our results minus theirs, for each seed that both have."""
    seeds = sorted(ours.keys() & theirs.keys())
    return [_difference(ours[seed].summary.result, theirs[seed].summary.result) for seed in seeds]


def _difference(ours: float, theirs: float) -> float:
    """Our result minus theirs, 0 where they are the same."""
    is_same = math.isfinite(ours) and math.isclose(ours, theirs, rel_tol=SAME)
    return 0.0 if is_same else ours - theirs


def _are_equal(differences: Sequence[float]) -> bool:
    """Whether all differences are the same, except for rounding."""
    return max(differences) - min(differences) <= ROUNDING * max(map(abs, differences))


def judge(difference: Difference, margin: float) -> str:
    """Judge whether pruning is lossless.

    Args:
        difference: Pruning minus full data.
        margin: What may be lost, in the metric's unit.

    Returns:
        ``"lossless"`` only if the whole interval lies above -margin, ``"not lossless"`` only if all of
        it lies below; else ``"too few seeds to say"``, as where the seeds leave no spread to judge by,
        or ``"too near the margin to say"`` where, at this spread, more seeds would not do either.
    """
    if difference.num_pairs < 2 or difference.has_no_spread:
        return TOO_FEW
    if difference.least_gain > -margin:
        return "lossless"
    if difference.most_gain < -margin:
        return "not lossless"
    knows_spread = difference.num_pairs >= SEEDS_FOR_SPREAD
    return TOO_NEAR if knows_spread and seeds_needed(difference, margin) is None else TOO_FEW


def seeds_needed(difference: Difference, margin: float) -> int | None:
    """How many seeds would decide whether pruning is lossless, if mean and spread stayed as they are.

    Args:
        difference: Pruning minus full data.
        margin: What may be lost, in the metric's unit.

    Returns:
        More than there were; None if it is more than :data:`MOST_SEEDS`, and where one seed, or the same
        difference in each, tells of no spread.
    """
    if difference.num_pairs < 2 or difference.has_no_spread:
        return None
    from scipy import stats

    def quantile(num_pairs: int) -> float:
        return float(stats.t.ppf((1 + CONFIDENCE) / 2, num_pairs - 1))

    half = (difference.high - difference.low) / 2
    deviation = half * math.sqrt(difference.num_pairs) / quantile(difference.num_pairs)
    distance = abs(difference.metric.gain(difference.mean) + margin)
    for num_pairs in range(difference.num_pairs + 1, MOST_SEEDS + 1):
        if quantile(num_pairs) * deviation / math.sqrt(num_pairs) < distance:
            return num_pairs
    return None


def p_value(ours: ArmRuns, rival: ArmRuns) -> float:
    """Two-sided p of a paired t test; NaN for one seed, or where the differences have no spread."""
    return p_of(_differences(ours.runs, rival.runs))


def p_of(differences: Sequence[float]) -> float:
    """As :func:`p_value`, of the differences of each seed."""
    from scipy import stats

    if len(differences) < 2 or not any(differences):
        return math.nan if len(differences) < 2 else 1.0
    if _are_equal(differences):  # of a few test images: no spread to judge by
        return math.nan
    return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests, by Holm's step-down procedure.

    Args:
        p_values: One for each test; NaN stays NaN and counts as no test.

    Returns:
        The corrected values, in the same order.

    Source: Holm, 1979.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = list(p_values), 0.0
    for place, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - place) * p))
        corrected[i] = largest
    return corrected


def p_text(p: float) -> str:
    """A p-value to three digits, and never 0; NaN is empty."""
    if math.isnan(p):
        return ""
    return f"{p:.3f}" if p >= 0.0005 else "<0.001"
