"""Finished runs as data: groups of seeds, their means, paired differences and the verdict."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from infobatch.lab.comparison.variants import CONTROLS, FULL, PRUNED, RANDOM, Arm
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes import Published
from infobatch.lab.runs.records import EpochMetrics, Summary
from infobatch.lab.tasks.metrics import ACCURACY, Metric
from infobatch.lab.tasks.registry import metric_of

CONFIDENCE = 0.95

EQUAL_COST = 0.005
"""Costs that differ by a smaller share are called the same."""


@dataclass(frozen=True)
class Run:
    """One finished run."""

    config: TrainConfig
    summary: Summary
    metrics: Sequence[EpochMetrics]

    @property
    def metric(self) -> Metric:
        return metric_of(self.config)


def half_interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % t interval of the mean of ``values``; NaN for a single one."""
    if len(values) < 2:
        return math.nan
    from scipy import stats

    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return float(quantile) * statistics.stdev(values) / math.sqrt(len(values))


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences in ``metric``, and its 95 % t interval over seeds."""

    mean: float
    low: float
    high: float
    num_pairs: int
    metric: Metric = ACCURACY

    @classmethod
    def of(cls, ours: dict[int, Run], theirs: dict[int, Run]) -> Difference | None:
        """Ours minus theirs, over the seeds that both have; None without a common seed."""
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            return None
        pairs = [ours[s].summary.result - theirs[s].summary.result for s in seeds]
        metric, mean = ours[seeds[0]].metric, statistics.fmean(pairs)
        if len(pairs) == 1:
            return cls(mean, -math.inf, math.inf, 1, metric)
        half = half_interval(pairs)
        return cls(mean, mean - half, mean + half, len(pairs), metric)

    @property
    def least_gain(self) -> float:
        """The end of the interval that is less to our credit; positive if ours is ahead."""
        return min(self.metric.gain(self.low), self.metric.gain(self.high))

    @property
    def most_gain(self) -> float:
        """The end of the interval that is more to our credit; negative if ours is behind."""
        return max(self.metric.gain(self.low), self.metric.gain(self.high))

    @property
    def short(self) -> str:
        """For a cell of a table."""
        return str(self).replace(" to ", "…")

    def __str__(self) -> str:
        if self.num_pairs == 1:
            return f"{self.metric.signed(self.mean)} (one seed)"
        low, high = self.metric.signed(self.low), self.metric.signed(self.high)
        return f"{self.metric.signed(self.mean)} ({low} to {high})"


@dataclass(frozen=True)
class ArmRuns:
    """The finished runs of an arm, keyed by their seed."""

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
        """Sample standard deviation over seeds; NaN for a single one."""
        return statistics.stdev(self.results) if len(self.runs) > 1 else math.nan

    @property
    def half_interval(self) -> float:
        """Half the width of the mean result's 95 % t interval over seeds; NaN for a single one."""
        return half_interval(self.results)

    def mean(self, field: str) -> float:
        return statistics.fmean(getattr(run.summary, field) for run in self.runs.values())


@dataclass(frozen=True)
class Row:
    """One line of the table; ``saved``: of the cost, relative to full data."""

    label: str
    result: float
    deviation: float
    to_full: Difference | None
    num_trained: float
    num_steps: float
    seconds: float
    saved: float
    num_seeds: int


@dataclass(frozen=True)
class PublishedRow:
    """What others report beside what we measured; ``ours``: None where there is no counterpart."""

    published: Published
    ours: Row | None
    num_seeds: int


@dataclass(frozen=True)
class Results:
    """All that a report shows.

    ``full`` is the arm that others are compared with, if there is one; ``commands`` repeat it all;
    ``published`` is what others report for the same experiment. ``metric``: that all are judged by.
    """

    title: str
    metric: Metric
    arms: Sequence[ArmRuns]
    full: ArmRuns | None
    margin: float
    commands: Sequence[str]
    notes: Sequence[str] = ()
    published: Sequence[Published] = ()

    @property
    def pruned(self) -> list[ArmRuns]:
        return [arm for arm in self.arms if arm.kind == PRUNED]

    def rows(self) -> list[Row]:
        return [self._row(arm) for arm in self.arms]

    def published_rows(self) -> list[PublishedRow]:
        """What others report, with ours in the next column; none where nothing of ours compares."""
        ours = {arm.arm.variant.name if arm.arm.variant else FULL: arm for arm in self.pruned}
        if self.full is not None:
            ours[FULL] = self.full
        rows = []
        for published in self.published:
            arm = ours.get(published.arm)
            row = self._row(arm) if arm else None
            rows.append(PublishedRow(published, row, len(arm.runs) if arm else 0))
        return rows if any(row.ours for row in rows) else []

    @property
    def is_contest(self) -> bool:
        """Whether several policies were brought to the same cost."""
        return sum(arm.arm.variant.target is not None for arm in self.pruned if arm.arm.variant) > 1

    def verdict(self) -> str:
        """The comparison in plain words, a line for each way of pruning."""
        if self.full is None or self.is_contest:
            return ""
        lines = [self._verdict_on(arm, self.full) for arm in self.pruned]
        if len(lines) > 1:
            lines = [f"{arm.label}: {line}" for arm, line in zip(self.pruned, lines, strict=True)]
        return "\n".join([*lines, *self._scope()])

    def _verdict_on(self, ours: ArmRuns, full: ArmRuns) -> str:
        difference = Difference.of(ours.runs, full.runs)
        if difference is None:
            return "No seed was trained both on full data and pruned: nothing to compare."
        judged = judge(difference, self.margin)
        if ours.mean("num_trained") == ours.mean("num_full"):
            return "Nothing was pruned: the first epoch is warm-up, and the last ones anneal."
        saved = f"{self._row(ours).saved:.1%} of the samples saved"
        detail = f"{saved}, {self.metric.name} against full data {difference}{self._points}"
        return " ".join([f"{judged}: {detail}.", *self._rivals(ours)])

    def _scope(self) -> list[str]:
        counts = [len(arm.runs) for arm in self.pruned]
        if not counts:
            return []
        if max(counts) == 1:
            return ["One seed gives no interval."]
        return [
            "± is the standard deviation over seeds, in parentheses is the 95 % interval of the mean "
            f"paired difference: it covers the {max(counts)} seeds, not the choice of the test set. "
            f"Lossless means {self._lossless}."
        ]

    @property
    def _points(self) -> str:
        return " points" if self.metric.unit == "%" else ""

    @property
    def _lossless(self) -> str:
        if self.metric.higher_is_better:
            return f"above -{self.margin:g}{self._points}"
        return f"below +{self.margin:g}{self._points}"

    def _rivals(self, ours: ArmRuns) -> list[str]:
        """A sentence on what a user would do instead, at the same cost."""
        phrases = []
        for arm in self.controls_of(ours):
            difference = Difference.of(ours.runs, arm.runs)
            if difference is not None:
                if difference.least_gain > 0:
                    place = "ahead of"
                elif difference.most_gain < 0:
                    place = "behind"
                else:
                    place = "not clearly different from"
                phrases.append(f"{place} {arm.label}{self._dearer(arm, ours)}, {difference}")
        return [f"At the same cost it is {', and '.join(phrases)}."] if phrases else []

    def controls(self) -> list[str]:
        """Each pruned arm against what a user would do instead at the same cost."""
        lines = []
        for ours in self.pruned:
            for arm in self.controls_of(ours):
                difference = Difference.of(ours.runs, arm.runs)
                rival = arm.label + self._dearer(arm, ours)
                lines.append(f"  {ours.label} against {rival}: {difference}{self._points}")
        cost = "At the same cost, the samples that each seed's pruned run trained on:"
        return [cost, *lines] if lines else []

    @staticmethod
    def _dearer(control: ArmRuns, ours: ArmRuns) -> str:
        """By how much, where epochs are cut at whole batches and runs so short that it counts."""
        seeds = control.runs.keys() & ours.runs.keys()
        if not seeds:
            return ""
        costs = [sum(arm.runs[seed].summary.cost for seed in seeds) for arm in (control, ours)]
        more = costs[0] / costs[1] - 1
        if abs(more) < EQUAL_COST:
            return ""
        return f" (which cost {abs(more):.1%} {'more' if more > 0 else 'less'})"

    def controls_of(self, ours: ArmRuns) -> list[ArmRuns]:
        """What a user would do instead, at the cost of a pruned arm."""
        return [arm for arm in self._of_cost(ours) if arm.kind in CONTROLS]

    def alike(self, ours: ArmRuns) -> list[ArmRuns]:
        """The pruned arms of the same cost."""
        return [arm for arm in self._of_cost(ours) if arm.kind == PRUNED]

    def _of_cost(self, ours: ArmRuns) -> list[ArmRuns]:
        variant = ours.arm.variant
        assert variant is not None
        return [arm for arm in self.arms if variant.has_cost_of(arm.arm.variant)]

    @property
    def random(self) -> list[ArmRuns]:
        return [arm for arm in self.arms if arm.kind == RANDOM]

    def cost(self, arm: ArmRuns) -> float:
        """What it computed, as a share of full data's."""
        reference = self.full.mean("cost") if self.full else arm.mean("num_full")
        return arm.mean("cost") / reference

    def _row(self, arm: ArmRuns) -> Row:
        of_one = arm.kind in CONTROLS and len(self.pruned) > 1 and not self.is_contest
        return Row(
            label=f"– {arm.label}" if of_one else arm.label,
            result=arm.result,
            deviation=arm.deviation,
            to_full=Difference.of(arm.runs, self.full.runs) if self.full not in (None, arm) else None,
            num_trained=arm.mean("num_trained"),
            num_steps=arm.mean("num_steps"),
            seconds=arm.mean("seconds"),
            saved=1 - self.cost(arm),
            num_seeds=len(arm.runs),
        )


def judge(difference: Difference, margin: float) -> str:
    """``lossless`` only if the whole interval lies above -margin."""
    if difference.num_pairs < 2:
        return "too few seeds to say"
    if difference.least_gain > -margin:
        return "lossless"
    return "not lossless" if difference.most_gain < -margin else "too few seeds to say"
