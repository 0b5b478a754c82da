"""Reports of finished runs.

``reading`` makes :class:`Results` of folders. They hold arms (``arms``) and their paired differences
(``paired``). Everything shown is made from them: tables (``tables``, ``equal_cost``, ``noise``), the
verdict (``verdict``) and plots (``plots``), put together in Markdown (``markdown``), HTML (``page``) and
JSON (``data``), and by the commands for the terminal. ``classes`` shows one run class by class.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from infobatch.lab.files import write_text_whole
from infobatch.lab.report.data import to_json
from infobatch.lab.report.markdown import to_markdown
from infobatch.lab.report.page import write_page
from infobatch.lab.report.reading import read_comparison, read_runs
from infobatch.lab.report.results import Results


def check_drawable() -> None:
    """Raise ``ModuleNotFoundError`` if what plots are drawn with is not installed: before training."""
    for package in ("matplotlib", "PIL"):
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"a report needs {package}, which is not installed", name=package)


def write_report(results: Results, folder: Path) -> Path:
    """Write plots, data and pages of results, each file whole: other processes may write it, too.

    Args:
        results: What to show.
        folder: Where to write; it is made if it is not there.

    Returns:
        The path of the HTML page.
    """
    from infobatch.lab.report.plots import draw_plots  # matplotlib takes its time

    folder.mkdir(parents=True, exist_ok=True)
    plots = draw_plots(results, folder)
    text = to_markdown(results, plots)
    for name, content in (("report.md", text), ("runs.json", to_json(results))):
        write_text_whole(folder / name, content)
    return write_page(results, plots, folder / "report.html")


__all__ = [
    "Results",
    "check_drawable",
    "read_comparison",
    "read_runs",
    "to_markdown",
    "write_report",
]
