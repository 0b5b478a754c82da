"""The plots of a report."""

from types import SimpleNamespace

from helpers.results import compared
from infobatch.lab.report.plots import draw_curves, draw_overlay


def test_runs_that_are_evaluated_once_are_drawn_as_dots():
    def metrics(result):
        return SimpleNamespace(
            epoch=2, result=result, test_loss=result, train_loss=0.1, samples_so_far=600
        )

    results = compared([400, 400], [metrics(None), metrics(0.12)])
    axis = draw_overlay(results).axes[1]
    assert [len(line.get_xdata()) for line in axis.lines] == [2, 2]
    assert {line.get_marker() for line in axis.lines} == {"o"}
    axes = draw_curves(results).axes
    assert len(axes) == 4, "the test loss is the result: no panel of its own"
    assert all(line.get_marker() == "o" for axis in axes[:2] for line in axis.lines)
