"""Reports: the data first (results), then text, plots and one HTML page made from it."""

from __future__ import annotations

from pathlib import Path

from infobatch.lab.report.page import write_page
from infobatch.lab.report.plots import draw_plots
from infobatch.lab.report.results import Results, read_comparison, read_runs
from infobatch.lab.report.text import print_results, to_markdown


def write_report(results: Results, folder: Path) -> Path:
    """Write plots, table and page into ``folder``; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(to_markdown(results))
    return write_page(results, draw_plots(results, folder), folder / "report.html")


__all__ = ["Results", "print_results", "read_comparison", "read_runs", "write_report"]
