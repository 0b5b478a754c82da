"""The results of runs on the terminal."""

import io

from rich.console import Console

from infobatch.lab.commands import results as module
from infobatch.lab.commands.results import print_results
from infobatch.lab.report import read_comparison
from infobatch.lab.report.tables import Section, main_table


def test_a_narrow_terminal_cuts_no_number_short(comparison):
    results, printed = read_comparison(comparison.path), io.StringIO()
    print_results(results, Console(file=printed, width=40))
    lines = [" ".join(line.split()) for line in printed.getvalue().splitlines()]
    headings, rows = main_table(results)
    assert all(" ".join(filter(None, row)) in lines for row in (headings, *rows))
    assert any(line.startswith("Verdict") for line in lines)


def test_a_table_of_many_columns_is_as_wide_as_it_must_be(comparison, monkeypatch):
    wide = Section("", tuple("ab"), [tuple("x" * 200 for _ in range(2))])
    monkeypatch.setattr(module, "sections", lambda results: [wide])
    printed = io.StringIO()
    print_results(read_comparison(comparison.path), Console(file=printed, width=40))
    assert any(line.split() == ["x" * 200] * 2 for line in printed.getvalue().splitlines())
