"""Results as one self-contained HTML page: table, verdict, plots and how to repeat it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from infobatch.lab.comparison.command import start_of
from infobatch.lab.config.train import UNTYPED, TrainConfig, flag
from infobatch.lab.files import write_text_whole
from infobatch.lab.report.headline import headlines
from infobatch.lab.report.results import Results
from infobatch.lab.report.tables import environments, sections
from infobatch.lab.report.verdict import control_lines, verdict
from infobatch.lab.tasks.registry import TASKS


def write_page(results: Results, plots: Sequence[Path], path: Path) -> Path:
    """Write results as an HTML page that holds its plots.

    Args:
        results: What to show.
        plots: Paths of the plots.
        path: Where to write the page.

    Returns:
        The path of the page.
    """
    environment = Environment(loader=PackageLoader("infobatch.lab.report"), autoescape=True)
    shown = (results.pruned or results.arms)[0]
    runs = list(shown.runs.values())
    first, *others = sections(results)
    html = environment.get_template("page.html.jinja").render(
        title=results.title,
        headlines=headlines(results),
        first=first,
        others=others,
        verdict=verdict(results).splitlines(),
        controls=control_lines(results),
        notes=results.notes,
        plots=[(plot.stem, base64.b64encode(plot.read_bytes()).decode()) for plot in plots],
        commands=results.commands,
        label=shown.label,
        changed=_changed(runs[0].config),
        options=_options(runs[0].config),
        environments=environments(results),
    )
    write_text_whole(path, html)
    return path


def _options(config: TrainConfig) -> dict[str, Any]:
    """The options of a run, but for those of other tasks."""
    known = {option for task in TASKS.values() for option in task.options}
    others = known - set(TASKS[config.task].options)
    options = config.options().items()
    return {flag(name): value for name, value in options if name.split(".")[0] not in others}


def _changed(config: TrainConfig) -> dict[str, Any]:
    """The options in which a run differs from what it started from, but for those that nobody types."""
    _, base = start_of(config)
    differences = config.differences(base).items()
    return {flag(name): value for name, (value, _) in differences if name not in UNTYPED}
