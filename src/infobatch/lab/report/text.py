"""Results as a table for the terminal, and as Markdown."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.table import Table

from infobatch.lab.report.results import Results, Row

HEADINGS = ("", "accuracy %", "against full", "samples", "steps", "time s", "saved")


def cells(row: Row) -> list[str]:
    """One row of the table as text."""
    spread = "" if math.isnan(row.deviation) else f" ± {row.deviation:.2f}"
    return [
        row.label,
        f"{row.accuracy:.2f}{spread}",
        "" if row.to_full is None else row.to_full.short,
        f"{row.num_trained:,.0f}",
        f"{row.num_steps:,.0f}",
        f"{row.seconds:.1f}",
        f"{row.saved:.1%}",
    ]


def print_results(results: Results, console: Console) -> None:
    table = Table(title=results.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if i == 0 else "right", no_wrap=True)
    for row in results.rows():
        table.add_row(*cells(row))
    # At its natural width even where the terminal is narrower: a number cut short would mislead.
    wide = Console(file=console.file, width=max(console.width, 140))
    wide.print(table)
    for line in (*results.controls(), *results.notes):
        console.print(line, highlight=False)
    if results.verdict():
        console.print(f"\n[bold]Verdict[/bold]  {results.verdict()}", highlight=False)


def to_markdown(results: Results) -> str:
    lines = ["| " + " | ".join(HEADINGS) + " |", "| --- " + "| ---: " * (len(HEADINGS) - 1) + "|"]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in results.rows()]
    return "\n".join(lines) + "\n"
