"""The tables of a report."""

from dataclasses import replace
from types import SimpleNamespace

from helpers.results import LOSS, compared, ran
from infobatch.lab.comparison.variants import FULL, Arm
from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.results import Results
from infobatch.lab.report.tables import main_table


def test_a_table_names_the_metric_and_keeps_its_digits():
    summary = SimpleNamespace(
        result=0.12346,
        num_trained=10,
        num_full=10,
        num_steps=1,
        seconds=1.0,
        cost=10,
        mean_noise=None,
    )
    arm = ArmRuns(Arm(FULL), "full data", {0: SimpleNamespace(summary=summary)})
    results = Results("UNet on digits", LOSS, [arm], arm, LOSS.margin, [])
    headings, rows = main_table(results)
    assert headings[1] == "denoising loss (lower is better)"
    assert rows[0][1] == "0.1235"


def test_noise_is_shown_with_its_budget_where_it_is_known():
    results = compared([400, 400])
    assert "noise" not in main_table(results)[0]
    full, ours, fewer = results.arms
    told = [("noise-budget:max_noise=1.1", 1.07), ("noise-budget:max_noise=1.1", 1.1)]
    runs = {s: ran(0.13, 400, noise=noise, policy=policy) for s, (policy, noise) in enumerate(told)}
    random = ArmRuns(ours.arm, "random", {0: ran(0.2, 300, noise=2.0, policy="random")})
    shown = replace(results, arms=[full, replace(ours, runs=runs), fewer, random])
    headings, rows = main_table(shown)
    place = headings.index("noise")
    assert [row[place] for row in rows] == ["", "1.08 (1.1)", "", "2.00"]
