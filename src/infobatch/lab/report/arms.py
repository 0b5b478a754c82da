"""Finished runs, and the runs of one arm with their mean and spread over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from infobatch.lab.comparison.variants import Arm
from infobatch.lab.config.noise_budget import budget_of
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.runs.records import EpochMetrics, Summary
from infobatch.lab.tasks.metrics import Metric

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Run:
    """One finished run: its options, its summary, a record of each epoch, and what it is judged by."""

    config: TrainConfig
    summary: Summary
    metrics: Sequence[EpochMetrics]
    metric: Metric


def half_interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % t interval of a mean.

    Args:
        values: What the mean is of, one value for each seed.

    Returns:
        The half width, in the values' unit; NaN for fewer than two values.
    """
    if len(values) < 2:
        return math.nan
    from scipy import stats

    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return float(quantile) * deviation_of(values) / math.sqrt(len(values))


def deviation_of(values: Sequence[float]) -> float:
    """The standard deviation of values over seeds; NaN for fewer than two, or if one is not finite."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    return statistics.stdev(values)


@dataclass(frozen=True)
class ArmRuns:
    """The finished runs of an arm.

    Args:
        arm: The arm.
        label: Its name in tables and plots.
        runs: Its finished runs by their seed.
    """

    arm: Arm
    label: str
    runs: dict[int, Run]

    @property
    def kind(self) -> str:
        return self.arm.kind

    @property
    def policy(self) -> str:
        return self.arm.variant.policy if self.arm.variant else "none"

    @property
    def results(self) -> list[float]:
        return [run.summary.result for run in self.runs.values()]

    @property
    def result(self) -> float:
        return statistics.fmean(self.results)

    @property
    def deviation(self) -> float:
        """The standard deviation of the results over seeds; NaN for a single one."""
        return deviation_of(self.results)

    @property
    def half_interval(self) -> float:
        """Half the width of the mean result's 95 % t interval over seeds; NaN for a single one."""
        return half_interval(self.results)

    @property
    def noise(self) -> float | None:
        """The mean over seeds of the mean noise of pruned epochs; None where it is not known."""
        noises = [run.summary.mean_noise for run in self.runs.values()]
        known = [noise for noise in noises if noise is not None]
        return statistics.fmean(known) if known else None

    @property
    def budget(self) -> float | None:
        """The budget of noise that its runs kept to; None without one."""
        return budget_of(next(iter(self.runs.values())).config)

    @property
    def saves(self) -> str:
        """What it saves: samples, or cost where it computed more than training on those that it kept."""
        return "samples" if self.mean("cost") == self.mean("num_trained") else "cost"

    def mean(self, field: str) -> float:
        """The mean over seeds of a field of the summaries."""
        return statistics.fmean(getattr(run.summary, field) for run in self.runs.values())
