"""Policies at the same cost, against fewer epochs."""

from helpers.results import compared
from infobatch.lab.report.equal_cost import equal_cost_rows, equal_cost_table
from infobatch.lab.report.paired import p_text, p_value


def test_a_policy_is_tested_against_fewer_epochs_of_its_cost():
    results = compared([400, 400])
    _, ours, fewer = results.arms
    (row,) = equal_cost_rows(results)
    assert row.label == "ours"
    assert row.to_fewer.rival == "fewer epochs"
    assert row.to_fewer.p == p_value(ours, fewer), "one test needs no correction"
    assert row.to_paper is None
    headings, (line,) = equal_cost_table(results)
    assert headings == ["", "against fewer epochs", "p"], "no column for a rival that there is not"
    assert line == ["ours", row.to_fewer.difference.short, p_text(row.to_fewer.p)]
