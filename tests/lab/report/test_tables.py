"""The tables of a report."""

from types import SimpleNamespace

from helpers.results import LOSS
from infobatch.lab.comparison.variants import FULL, Arm
from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.results import Results
from infobatch.lab.report.tables import main_table


def test_a_table_names_the_metric_and_keeps_its_digits():
    summary = SimpleNamespace(
        result=0.12346, num_trained=10, num_full=10, num_steps=1, seconds=1.0, cost=10
    )
    arm = ArmRuns(Arm(FULL), "full data", {0: SimpleNamespace(summary=summary)})
    results = Results("UNet on digits", LOSS, [arm], arm, LOSS.margin, [])
    headings, rows = main_table(results)
    assert headings[1] == "denoising loss (lower is better)"
    assert rows[0][1] == "0.1235"
