"""What a report shows as tables, whether on a terminal, in Markdown or on a page."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infobatch.lab.report.arms import deviation_of
from infobatch.lab.report.equal_cost import EQUAL_COST_NOTE, equal_cost_table
from infobatch.lab.report.noise import NOISE_NOTE, noise_rows, noise_table
from infobatch.lab.report.results import PublishedRow, Results, Row
from infobatch.lab.tasks.metrics import ACCURACY, Metric, digits_of


@dataclass(frozen=True)
class Section:
    """A table, and a note on how to read it.

    Args:
        title: The heading above the table; empty for the first one.
        headings: The headings of its columns.
        rows: The cells of each line.
        note: How to read it.
        num_words: How many of the first columns hold words, aligned to the left.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    num_words: int = 1


def sections(results: Results) -> list[Section]:
    """The tables of a report that have rows.

    Args:
        results: What to show.

    Returns:
        The table of all arms first, then those that only some comparisons have.
    """
    made = [Section("", *main_table(results))]
    if details := details_table(results):
        made.append(Section("Measured beside it", *details))
    if published := results.published_rows():
        cells = [_published_cells(row) for row in published]
        made.append(
            Section("Beside what others report", PUBLISHED_HEADINGS, cells, PUBLISHED_NOTE, num_words=2)
        )
    if results.is_contest:
        made.append(Section("At the same cost", *equal_cost_table(results), EQUAL_COST_NOTE))
    if noise_rows(results):
        made.append(Section("Why a policy wins or loses", *noise_table(results), NOISE_NOTE))
    return made


def environments(results: Results) -> list[dict[str, Any]]:
    """Every machine and version that runs came from, each once, in the order of the runs."""
    runs = [run for arm in results.arms for run in arm.runs.values()]
    return [dict(each) for each in dict.fromkeys(tuple(r.summary.environment.items()) for r in runs)]


def main_table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table of all arms, with noise where it is known of any.

    The number of seeds is there where arms differ in it.
    """
    rows = results.rows()
    headings = ["", results.metric.heading, "against full", "samples", "steps", "time s", "saved"]
    lines = [_cells(row, results.metric) for row in rows]
    if any(row.noise is not None for row in rows):
        headings.append("noise")
        lines = [[*line, _noise(row)] for line, row in zip(lines, rows, strict=True)]
    if len({row.num_seeds for row in rows}) > 1:
        headings.append("seeds")
        lines = [[*line, str(row.num_seeds)] for line, row in zip(lines, rows, strict=True)]
    return headings, lines


def _cells(row: Row, metric: Metric) -> list[str]:
    return [
        row.label,
        _mean_and_deviation(row, metric),
        "" if row.to_full is None else row.to_full.short,
        f"{row.num_trained:,.0f}",
        f"{row.num_steps:,.0f}",
        f"{row.seconds:.1f}",
        f"{row.saved:.1%}",
    ]


def _noise(row: Row) -> str:
    """The noise, and in parentheses the budget of it."""
    if row.noise is None:
        return ""
    return f"{row.noise:.2f}" + ("" if row.budget is None else f" ({row.budget:g})")


PUBLISHED_HEADINGS = (
    "reported by",
    "run",
    "accuracy %",
    "saved",
    "min",
    "ours %",
    "saved",
    "min",
    "seeds",
)


def _published_cells(row: PublishedRow) -> list[str]:
    """Others' figures, and ours in the next columns."""
    theirs, ours = row.published, row.ours
    return [
        theirs.source,
        theirs.label,
        f"{theirs.accuracy:.2f}",
        "" if theirs.saved is None else f"{theirs.saved:.1f}%",
        "" if theirs.minutes is None else f"{theirs.minutes:.1f}",
        _mean_and_deviation(ours, ACCURACY) if ours else "",
        f"{ours.saved:.1%}" if ours else "",
        f"{ours.seconds / 60:.1f}" if ours else "",
        str(row.num_seeds) if ours else "",
    ]


def _mean_and_deviation(row: Row, metric: Metric) -> str:
    spread = "" if math.isnan(row.deviation) else f" ± {metric.text(row.deviation)}"
    return metric.text(row.result) + spread


PUBLISHED_NOTE = (
    "Others' figures are of one seed each and, in the reproductions, of the best test epoch; ours are "
    "means of the last epoch."
)


def details_table(results: Results) -> tuple[list[str], list[list[str]]] | None:
    """Headings and rows of further figures, means and deviations over seeds; None without any."""
    details = [[run.summary.details for run in arm.runs.values()] for arm in results.arms]
    found = [run for runs in details for run in runs]
    names = [name for name in found[0] if all(name in run for run in found)] if found else []
    rows = [
        [arm.label, *(_mean_and_deviation_of(name, [run[name] for run in runs]) for name in names)]
        for arm, runs in zip(results.arms, details, strict=True)
    ]
    return (["", *names], rows) if names else None


def _mean_and_deviation_of(name: str, values: Sequence[float]) -> str:
    digits = digits_of(name, values[0])
    spread = f" ± {deviation_of(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"
