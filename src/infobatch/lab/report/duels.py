"""Policies that cost the same, against fewer epochs and against the paper's rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from infobatch.lab.comparison.variants import PRUNED, RANDOM
from infobatch.lab.report.results import ArmRuns, Difference, Results

PAPER = "infobatch"
"""The policy that the others are compared with."""
SAME = 1e-6
"""Differences this close are one, but for rounding."""


@dataclass(frozen=True)
class Duel:
    """One arm against another over the seeds of both; ``p``: NaN where these have no spread.

    p is two-sided, of a paired t test, after Holm's correction over all duels of a contest.
    """

    rival: str
    difference: Difference
    p: float


@dataclass(frozen=True)
class Standing:
    """One policy at one cost against fewer epochs and the paper's rule, where they are there."""

    label: str
    to_fewer: Duel | None
    to_paper: Duel | None


def standings(results: Results) -> list[Standing]:
    """Each policy of a contest, and random pruning."""
    rows = []
    for ours in (arm for arm in results.arms if arm.kind in (PRUNED, RANDOM)):
        fewer = next((arm for arm in results.controls_of(ours) if arm.kind != RANDOM), None)
        paper = next((arm for arm in results.alike(ours) if arm.policy == PAPER), None)
        to_paper = None if paper is ours else _duel(ours, paper)
        rows.append(Standing(ours.label, _duel(ours, fewer), to_paper))
    return _corrected(rows)


def _duel(ours: ArmRuns, rival: ArmRuns | None) -> Duel | None:
    difference = Difference.of(ours.runs, rival.runs) if rival else None
    if rival is None or difference is None:
        return None
    return Duel(rival.label, difference, _p_value(ours, rival))


def _p_value(ours: ArmRuns, rival: ArmRuns) -> float:
    from scipy import stats

    seeds = sorted(ours.runs.keys() & rival.runs.keys())
    differences = [ours.runs[seed].summary.result - rival.runs[seed].summary.result for seed in seeds]
    if len(seeds) < 2 or not any(differences):
        return math.nan if len(seeds) < 2 else 1.0
    if max(differences) - min(differences) < SAME:  # of a few test images: no spread to judge by
        return math.nan
    return float(stats.ttest_1samp(differences, 0).pvalue)


def _corrected(rows: Sequence[Standing]) -> list[Standing]:
    duels = [duel for row in rows for duel in (row.to_fewer, row.to_paper) if duel]
    corrected = iter(holm([duel.p for duel in duels]))

    def again(duel: Duel | None) -> Duel | None:
        return replace(duel, p=next(corrected)) if duel else None

    return [replace(row, to_fewer=again(row.to_fewer), to_paper=again(row.to_paper)) for row in rows]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of ``p_values``; NaN stays and does not count (Holm, 1979)."""
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = list(p_values), 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[i] = largest
    return corrected


STANDING_NOTE = (
    "At the same cost: mean paired difference over seeds and its 95 % interval; p "
    "of a paired t test, after Holm's correction over the whole table. Fewer epochs is the better of "
    "two learning rates."
)


def standing_table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Headings and rows; without the paper's rule, or fewer epochs, no columns for them."""
    rows = standings(results)
    columns = {
        "against fewer epochs": [row.to_fewer for row in rows],
        "against InfoBatch": [row.to_paper for row in rows],
    }
    there = {name: duels for name, duels in columns.items() if any(duels)}
    headings = ["", *(heading for name in there for heading in (name, "p"))]
    lines = [[row.label] for row in rows]
    for duels in there.values():
        lines = [[*line, *_duel_cells(duel)] for line, duel in zip(lines, duels, strict=True)]
    return headings, lines


def _duel_cells(duel: Duel | None) -> list[str]:
    if duel is None:
        return ["", ""]
    return [duel.difference.short, p_text(duel.p)]


def p_text(p: float) -> str:
    """To three digits, and never 0; NaN as nothing."""
    if math.isnan(p):
        return ""
    return f"{p:.3f}" if p >= 0.0005 else "<0.001"
