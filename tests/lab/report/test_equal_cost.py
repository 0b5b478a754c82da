"""Policies at the same cost, against fewer epochs."""

from dataclasses import replace

from helpers.results import compared, ran
from infobatch.lab.comparison.variants import SAME_STEPS, Arm
from infobatch.lab.report.arms import ArmRuns
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


def test_the_same_steps_are_a_rival_of_their_own():
    results = compared([400, 400])
    _, ours, fewer = results.arms
    label = "fewer epochs, same steps"
    same = ArmRuns(Arm(SAME_STEPS, ours.arm.variant), label, {s: ran(0.14, 400) for s in (0, 1)})
    shown = replace(results, arms=[*results.arms, same])
    (row,) = equal_cost_rows(shown)
    assert (row.to_fewer.rival, row.to_same_steps.rival) == ("fewer epochs", label)
    least = min(p_value(ours, fewer), p_value(ours, same))
    assert min(row.to_fewer.p, row.to_same_steps.p) == min(1, 2 * least), "two tests are corrected for"
    headings, (line,) = equal_cost_table(shown)
    assert headings == ["", "against fewer epochs", "p", "against the same steps", "p"]
    assert line[3] == row.to_same_steps.difference.short
