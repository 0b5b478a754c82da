"""The table of policies that cost the same, against fewer epochs and against the paper's rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from infobatch.lab.comparison.variants import CONTROLS, FEWER, FEWER_SCALED, FULL, SAME_STEPS
from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.paired import Difference, holm, p_text, p_value
from infobatch.lab.report.results import Results

EQUAL_COST_NOTE = (
    "At the same cost: mean paired difference over seeds and its 95 % interval; p "
    "of a paired t test, after Holm's correction over the whole table. Fewer epochs is the better of "
    "two learning rates; in the same steps as full data, it has smaller batches."
)


@dataclass(frozen=True)
class PairedTest:
    """One arm against another, over the seeds of both.

    Args:
        rival: The other arm's label.
        difference: The mean difference and its interval.
        p: Of a two-sided paired t test, corrected for all tests of the table; NaN where the seeds have
            no spread.
    """

    rival: str
    difference: Difference
    p: float


@dataclass(frozen=True)
class EqualCostRow:
    """One policy at one cost; a test is None where there is no such rival."""

    label: str
    to_fewer: PairedTest | None
    to_paper: PairedTest | None
    to_same_steps: PairedTest | None = None

    @property
    def tests(self) -> list[PairedTest | None]:
        """The tests in the order of the columns."""
        return [self.to_fewer, self.to_same_steps, self.to_paper]


def equal_cost_rows(results: Results) -> list[EqualCostRow]:
    """A row for each policy of a contest, and for the controls that leave out samples."""
    rows = []
    shorter = {kind for kind, control in CONTROLS.items() if control.is_shorter}
    for ours in (arm for arm in results.arms if arm.kind not in {FULL, *shorter}):
        controls = results.controls_of(ours)
        fewer = next((arm for arm in controls if arm.kind in (FEWER, FEWER_SCALED)), None)
        same = next((arm for arm in controls if arm.kind == SAME_STEPS), None)
        paper = results.paper_rule_beside(ours)
        tests = [_test(ours, rival) for rival in (fewer, paper, same)]
        rows.append(EqualCostRow(ours.label, *tests))
    return _corrected(rows)


def _test(ours: ArmRuns, rival: ArmRuns | None) -> PairedTest | None:
    difference = Difference.of(ours.runs, rival.runs) if rival else None
    if rival is None or difference is None:
        return None
    return PairedTest(rival.label, difference, p_value(ours, rival))


def _corrected(rows: Sequence[EqualCostRow]) -> list[EqualCostRow]:
    """The rows with p-values corrected for the number of their tests."""
    tests = [test for row in rows for test in row.tests if test]
    p_values = iter(holm([test.p for test in tests]))

    def corrected(test: PairedTest | None) -> PairedTest | None:
        return replace(test, p=next(p_values)) if test else None

    made = []
    for row in rows:
        fewer, same, paper = map(corrected, row.tests)
        made.append(EqualCostRow(row.label, fewer, paper, same))
    return made


def equal_cost_table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Headings and rows; there are no columns for a rival that no policy has."""
    rows = equal_cost_rows(results)
    columns = {
        "against fewer epochs": [row.to_fewer for row in rows],
        "against the same steps": [row.to_same_steps for row in rows],
        "against InfoBatch": [row.to_paper for row in rows],
    }
    there = {name: tests for name, tests in columns.items() if any(tests)}
    headings = ["", *(heading for name in there for heading in (name, "p"))]
    lines = [[row.label] for row in rows]
    for tests in there.values():
        lines = [[*line, *_cells(test)] for line, test in zip(lines, tests, strict=True)]
    return headings, lines


def _cells(test: PairedTest | None) -> list[str]:
    return [test.difference.short, p_text(test.p)] if test else ["", ""]
