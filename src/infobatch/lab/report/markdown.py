"""Results as a page of Markdown that shows the plots beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from infobatch.lab.report.duels import STANDING_NOTE, standing_table
from infobatch.lab.report.noise import NOISE_NOTE, noise_rows, noise_table
from infobatch.lab.report.results import Results
from infobatch.lab.report.text import (
    PUBLISHED_HEADINGS,
    PUBLISHED_NOTE,
    main_table,
    published_cells,
)


def to_markdown(results: Results, plots: Sequence[Path] = ()) -> str:
    commands = ["```sh", *results.commands, "```"]
    parts = [f"# {results.title}", "\n".join(commands), _table(*main_table(results))]
    published = results.published_rows()
    if published:
        parts += [_table(PUBLISHED_HEADINGS, map(published_cells, published)), PUBLISHED_NOTE]
    controls = results.controls()
    if results.is_contest:
        parts += [_table(*standing_table(results)), STANDING_NOTE]
    elif controls:
        parts += ["\n".join([controls[0], "", *(f"- {line.strip()}" for line in controls[1:])])]
    parts += results.notes
    if noise_rows(results):
        parts += [_table(*noise_table(results)), NOISE_NOTE]
    if results.verdict():
        parts += f"**Verdict**: {results.verdict()}".splitlines()
    parts += [_environment(results)]
    parts += [f"![{plot.stem}]({plot.name})" for plot in plots]
    return "\n\n".join(parts) + "\n"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(titles) + " |", "| --- " + "| ---: " * (len(titles) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _environment(results: Results) -> str:
    """Every machine and version that runs came from, and their seeds."""
    runs = [run for arm in results.arms for run in arm.runs.values()]
    places = dict.fromkeys(
        ", ".join(f"{name} {value}" for name, value in run.summary.environment.items()) for run in runs
    )
    seeds = sorted({run.config.seed for run in runs})
    return f"{'; '.join(places)}. Seeds {', '.join(map(str, seeds))}. Every run is in runs.json."
