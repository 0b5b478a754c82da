"""The results of runs on the terminal."""

import io

from rich.console import Console

from infobatch.lab.commands.results import print_results
from infobatch.lab.report import read_comparison
from infobatch.lab.report.tables import main_table


def test_a_narrow_terminal_cuts_no_number_short(comparison):
    results, printed = read_comparison(comparison.path), io.StringIO()
    print_results(results, Console(file=printed, width=40))
    lines = [" ".join(line.split()) for line in printed.getvalue().splitlines()]
    headings, rows = main_table(results)
    assert all(" ".join(filter(None, row)) in lines for row in (headings, *rows))
    assert any(line.startswith("Verdict") for line in lines)
