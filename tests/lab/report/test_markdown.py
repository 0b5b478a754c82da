"""Results as a page of Markdown."""

from pathlib import Path

from infobatch.lab.report import read_comparison
from infobatch.lab.report.markdown import to_markdown
from infobatch.lab.report.tables import main_table


def test_the_page_has_the_table_the_command_and_the_plots(comparison):
    results = read_comparison(comparison.path)
    text = to_markdown(results, [Path("plots/curves.png")])
    headings, rows = main_table(results)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == "| " + " | ".join(headings) + " |"
    assert lines[2 : 2 + len(rows)] == ["| " + " | ".join(row) + " |" for row in rows]
    assert text.startswith(f"# {results.title}\n\n```sh\n{results.commands[0]}\n```")
    assert "Seeds 3, 4. Every run is in runs.json." in text
    assert text.endswith("![curves](curves.png)\n")
