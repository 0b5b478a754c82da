"""The results of runs on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from infobatch.lab.commands.console import plain_console
from infobatch.lab.report.results import Results
from infobatch.lab.report.tables import Section, sections
from infobatch.lab.report.verdict import control_lines, verdict

WIDEST = 500
"""Columns that no table of a report fills."""


def print_results(results: Results, console: Console) -> None:
    """Print the tables of a report, its notes and its verdict.

    Args:
        results: What to print.
        console: Where to print it; tables are as wide as they need to be.
    """
    # At its natural width even where the terminal is narrower: a number cut short would mislead.
    wide = plain_console(file=console.file, width=max(console.width, WIDEST))
    first, *others = sections(results)
    wide.print(_table(first, results.title))
    for line in (*control_lines(results), *results.notes):
        console.print(line)
    for section in others:
        wide.print(_table(section))
        if section.note:
            console.print(section.note)
    if words := verdict(results):
        console.print(Text.assemble("\n", ("Verdict", "bold"), f"  {words}"))


def _table(section: Section, title: str | None = None) -> Table:
    """One table of the report."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, heading in enumerate(section.headings):
        table.add_column(heading, justify="left" if i < section.num_words else "right", no_wrap=True)
    for row in section.rows:
        table.add_row(*row)
    return table
