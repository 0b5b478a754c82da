"""Reports: the data first (results), then text, plots and pages made from it."""

from __future__ import annotations

from pathlib import Path

from infobatch.lab.report.data import to_json
from infobatch.lab.report.markdown import to_markdown
from infobatch.lab.report.page import write_page
from infobatch.lab.report.plots import draw_plots
from infobatch.lab.report.reading import read_comparison, read_runs
from infobatch.lab.report.results import Results


def write_report(results: Results, folder: Path) -> Path:
    """Write plots, data and pages into ``folder``; returns the path of the HTML page."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = draw_plots(results, folder)
    (folder / "report.md").write_text(to_markdown(results, plots))
    (folder / "runs.json").write_text(to_json(results))
    return write_page(results, plots, folder / "report.html")


__all__ = [
    "Results",
    "read_comparison",
    "read_runs",
    "to_markdown",
    "write_report",
]
