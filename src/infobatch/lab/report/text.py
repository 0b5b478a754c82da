"""Results as tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from infobatch.lab.metrics import ACCURACY, Metric
from infobatch.lab.report.duels import STANDING_NOTE, standing_table
from infobatch.lab.report.noise import NOISE_NOTE, noise_rows, noise_table
from infobatch.lab.report.results import PublishedRow, Results, Row


def main_table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table of all arms; how many seeds each has, where they differ."""
    rows = results.rows()
    headings = ["", results.metric.heading, "against full", "samples", "steps", "time s", "saved"]
    lines = [_cells(row, results.metric) for row in rows]
    if len({row.num_seeds for row in rows}) > 1:
        headings.append("seeds")
        lines = [[*line, str(row.num_seeds)] for line, row in zip(lines, rows, strict=True)]
    return headings, lines


def _cells(row: Row, metric: Metric) -> list[str]:
    return [
        row.label,
        _with_spread(row, metric),
        "" if row.to_full is None else row.to_full.short,
        f"{row.num_trained:,.0f}",
        f"{row.num_steps:,.0f}",
        f"{row.seconds:.1f}",
        f"{row.saved:.1%}",
    ]


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


def published_cells(row: PublishedRow) -> list[str]:
    """One row of others' figures with ours in the next columns."""
    theirs, ours = row.published, row.ours
    return [
        theirs.source,
        theirs.label,
        f"{theirs.accuracy:.2f}",
        "" if theirs.saved is None else f"{theirs.saved:.1f}%",
        "" if theirs.minutes is None else f"{theirs.minutes:.1f}",
        _with_spread(ours, ACCURACY) if ours else "",
        f"{ours.saved:.1%}" if ours else "",
        f"{ours.seconds / 60:.1f}" if ours else "",
        str(row.num_seeds) if ours else "",
    ]


def _with_spread(row: Row, metric: Metric) -> str:
    spread = "" if math.isnan(row.deviation) else f" ± {metric.text(row.deviation)}"
    return metric.text(row.result) + spread


PUBLISHED_NOTE = (
    "Others' figures are of one seed each and, in the reproductions, of the best test epoch; ours are "
    "means of the last epoch."
)


def print_results(results: Results, console: Console) -> None:
    table = _table(*main_table(results), 1, results.title)
    # At its natural width even where the terminal is narrower: a number cut short would mislead.
    wide = Console(file=console.file, width=max(console.width, 140))
    wide.print(table)
    if results.published_rows():
        wide.print(_table(PUBLISHED_HEADINGS, map(published_cells, results.published_rows()), 2))
        console.print(PUBLISHED_NOTE, highlight=False)
    for line in (*([] if results.is_contest else results.controls()), *results.notes):
        console.print(line, highlight=False)
    if results.is_contest:
        wide.print(_table(*standing_table(results), 1))
        console.print(STANDING_NOTE, highlight=False)
    if noise_rows(results):
        wide.print(_table(*noise_table(results), 1))
        console.print(NOISE_NOTE, highlight=False)
    if results.verdict():
        console.print(f"\n[bold]Verdict[/bold]  {results.verdict()}", highlight=False)


def _table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], num_left: int, title: str | None = None
) -> Table:
    """A table whose first ``num_left`` columns are words."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, heading in enumerate(titles):
        table.add_column(heading, justify="left" if i < num_left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
