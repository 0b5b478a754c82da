"""Results as a page of Markdown that shows the plots beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from infobatch.lab.report.results import Results
from infobatch.lab.report.tables import Section, environments, sections
from infobatch.lab.report.verdict import control_lines, verdict


def to_markdown(results: Results, plots: Sequence[Path] = ()) -> str:
    """Write results as a page of Markdown.

    Args:
        results: What to show.
        plots: Paths of plots that lie beside the page.

    Returns:
        The page's text.
    """
    commands = ["```sh", *results.commands, "```"]
    first, *others = sections(results)
    parts = [f"# {results.title}", "\n".join(commands), _table(first)]
    if controls := control_lines(results):
        parts.append("\n".join([controls[0], "", *(f"- {line.strip()}" for line in controls[1:])]))
    parts += results.notes
    for section in others:
        parts += [_table(section), section.note] if section.note else [_table(section)]
    if words := verdict(results):
        parts += f"**Verdict**: {words}".splitlines()
    parts += [_environment(results)]
    parts += [f"![{plot.stem}]({plot.name})" for plot in plots]
    return "\n\n".join(parts) + "\n"


def _table(section: Section) -> str:
    lines = [section.headings, ["---", *["---:"] * (len(section.headings) - 1)], *section.rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """A text, which may be a name from the data, without what would end its cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def _environment(results: Results) -> str:
    """Every machine and version that runs came from, and their seeds."""
    runs = [run for arm in results.arms for run in arm.runs.values()]
    places = [
        ", ".join(f"{name} {value}" for name, value in each.items()) for each in environments(results)
    ]
    seeds = sorted({run.config.seed for run in runs})
    return f"{'; '.join(places)}. Seeds {', '.join(map(str, seeds))}. Every run is in runs.json."
