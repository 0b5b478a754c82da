"""Results agree with the runs' summaries."""

import pytest

from helpers.comparisons import FULL, PRUNED
from infobatch.lab.report import read_comparison


def test_results_agree_with_the_summaries(comparison):
    results = read_comparison(comparison.path)
    assert [arm.arm for arm in results.arms][:2] == [FULL, PRUNED]
    assert len(results.arms) == 4, "the worse of the two learning rates is not a row"
    rows = {row.label: row for row in results.rows()}
    pruned = rows["InfoBatch r=0.5"]
    summaries = [comparison.folder(PRUNED, seed).summary() for seed in comparison.seeds]
    full = [comparison.folder(FULL, seed).summary() for seed in comparison.seeds]
    assert pruned.result == pytest.approx(sum(s.result for s in summaries) / 2)
    assert pruned.saved == pytest.approx(1 - sum(s.num_trained for s in summaries) / (2 * 4 * 1400))
    differences = [s.result - f.result for s, f in zip(summaries, full, strict=True)]
    assert pruned.to_full.mean == pytest.approx(sum(differences) / 2)
