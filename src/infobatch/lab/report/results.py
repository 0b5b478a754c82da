"""All that a report shows, as data: the arms, their costs, and the rows of its main tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infobatch.lab.comparison.variants import CONTROLS, FULL, PRUNED
from infobatch.lab.recipes import Published
from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.paired import Difference
from infobatch.lab.tasks.metrics import Metric

PAPER = "infobatch"
"""The paper's rule: the policy that others of the same cost are compared with."""


@dataclass(frozen=True)
class Row:
    """An arm's line in the main table: means over its seeds.

    Args:
        label: The arm's name.
        result: The result, in the metric's unit.
        deviation: The result's standard deviation over seeds.
        to_full: The paired difference from full data; None for full data itself, or without it.
        num_trained: The samples trained.
        num_steps: The optimizer steps.
        seconds: The seconds of training.
        saved: The share of full data's cost that was saved.
        num_seeds: The number of finished runs.
        noise: The noise of pruned epochs, see :class:`Summary`; None where it is not known.
        budget: The budget of noise; None without one.
    """

    label: str
    result: float
    deviation: float
    to_full: Difference | None
    num_trained: float
    num_steps: float
    seconds: float
    saved: float
    num_seeds: int
    noise: float | None = None
    budget: float | None = None


@dataclass(frozen=True)
class PublishedRow:
    """What others report beside what we measured; ``ours`` is None where there is no counterpart."""

    published: Published
    ours: Row | None
    num_seeds: int


@dataclass(frozen=True)
class Results:
    """All that a report shows.

    Args:
        title: The model, the data and the length of the runs.
        metric: What all runs are judged by.
        arms: The arms in the order of the tables.
        full: The arm of full data, which the others are compared with; None without one.
        margin: What may be lost for the verdict "lossless", in the metric's unit.
        commands: The commands that repeat the runs.
        notes: Sentences on how to read the tables.
        published: What others report for the same experiment.
        is_contest: Whether several policies were brought to the same cost.
    """

    title: str
    metric: Metric
    arms: Sequence[ArmRuns]
    full: ArmRuns | None
    margin: float
    commands: Sequence[str]
    notes: Sequence[str] = ()
    published: Sequence[Published] = ()
    is_contest: bool = False

    # -- Which arms there are ----------------------------------------------------------------------

    @property
    def pruned(self) -> list[ArmRuns]:
        return [arm for arm in self.arms if arm.kind == PRUNED]

    def controls_of(self, ours: ArmRuns) -> list[ArmRuns]:
        """What a user would do instead, at the cost of a pruned arm."""
        return [arm for arm in self._of_cost(ours) if arm.kind in CONTROLS]

    def paper_rule_beside(self, ours: ArmRuns) -> ArmRuns | None:
        """The arm of the paper's rule at the cost of another; None for that rule itself, or without."""
        rules = [arm for arm in self._of_cost(ours) if arm.kind == PRUNED and arm.policy == PAPER]
        return None if not rules or rules[0] is ours else rules[0]

    def _of_cost(self, ours: ArmRuns) -> list[ArmRuns]:
        variant = ours.arm.variant
        assert variant is not None
        return [arm for arm in self.arms if variant.has_cost_of(arm.arm.variant)]

    @property
    def is_saturated(self) -> bool:
        """Whether every run reached the best that there is, so that the metric tells none apart."""
        best = self.metric.best
        return best is not None and all(result == best for arm in self.arms for result in arm.results)

    @property
    def has_no_percentages(self) -> bool:
        """Whether all results, of a metric in percent, are so small that they are shares or losses."""
        if self.metric.unit != "%" or not self.metric.higher_is_better:
            return False
        return all(0 < abs(result) <= 1 for arm in self.arms for result in arm.results)

    # -- What they cost and reached ----------------------------------------------------------------

    def difference_to_full(self, arm: ArmRuns) -> Difference | None:
        """The paired difference of an arm from full data; None for full data itself, or without it."""
        full = self.full
        return None if full is None or full is arm else Difference.of(arm.runs, full.runs)

    def cost(self, arm: ArmRuns) -> float:
        """What an arm computed, as a share of full data's cost."""
        reference = self.full.mean("cost") if self.full else arm.mean("num_full")
        return arm.mean("cost") / reference

    def saved(self, arm: ArmRuns) -> float:
        """The share of full data's cost that an arm saved."""
        return 1 - self.cost(arm)

    def rows(self) -> list[Row]:
        """The lines of the main table."""
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

    def _row(self, arm: ArmRuns) -> Row:
        belongs_to_one = arm.kind in CONTROLS and len(self.pruned) > 1 and not self.is_contest
        return Row(
            label=f"– {arm.label}" if belongs_to_one else arm.label,
            result=arm.result,
            deviation=arm.deviation,
            to_full=self.difference_to_full(arm),
            num_trained=arm.mean("num_trained"),
            num_steps=arm.mean("num_steps"),
            seconds=arm.mean("seconds"),
            saved=self.saved(arm),
            num_seeds=len(arm.runs),
            noise=arm.noise,
            budget=None if arm.noise is None else arm.budget,
        )
