"""Results as one self-contained HTML page: table, verdict, plots and how to repeat it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from infobatch.lab.report.noise import NOISE_NOTE, noise_table
from infobatch.lab.report.results import Results
from infobatch.lab.report.text import (
    PUBLISHED_HEADINGS,
    PUBLISHED_NOTE,
    main_table,
    published_cells,
)


def write_page(results: Results, plots: Sequence[Path], path: Path) -> Path:
    environment = Environment(
        loader=PackageLoader("infobatch.lab.report"), autoescape=select_autoescape()
    )
    shown = (results.pruned or results.arms)[0]
    runs = list(shown.runs.values())
    headings, rows = main_table(results)
    noise_headings, noise = noise_table(results)
    html = environment.get_template("page.html.jinja").render(
        title=results.title,
        headings=headings,
        rows=rows,
        verdict=results.verdict().splitlines(),
        published_headings=PUBLISHED_HEADINGS,
        published=[published_cells(row) for row in results.published_rows()],
        published_note=PUBLISHED_NOTE,
        noise_headings=noise_headings,
        noise=noise,
        noise_note=NOISE_NOTE,
        controls=results.controls(),
        notes=results.notes,
        plots=[(plot.stem, base64.b64encode(plot.read_bytes()).decode()) for plot in plots],
        commands=results.commands,
        options={"options of": shown.label, **runs[0].config.to_json()},
        environment=runs[0].summary.environment,
    )
    path.write_text(html)
    return path
