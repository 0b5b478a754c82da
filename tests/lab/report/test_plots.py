"""The plots of a report."""

import math
from dataclasses import replace
from types import SimpleNamespace

from helpers.results import LOSS, compared, ran
from infobatch.lab.comparison.variants import FEWER, FEWER_SCALED, FULL, PRUNED, Arm, Variant
from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.plots import (
    draw_courses,
    draw_differences,
    draw_kept,
    draw_noise,
    draw_plots,
)
from infobatch.lab.report.results import Results


def test_runs_that_are_evaluated_once_are_drawn_as_dots():
    def metrics(result):
        return SimpleNamespace(
            epoch=2, result=result, test_loss=result, train_loss=0.1, samples_so_far=600
        )

    results = compared([400, 400], [metrics(None), metrics(0.12)])
    figures = draw_courses(results)
    assert list(figures) == ["results", "results-by-epoch", "train-losses"], (
        "the result is the test loss"
    )
    for name in ("results", "results-by-epoch"):
        lines = figures[name].axes[0].lines
        assert [len(line.get_xdata()) for line in lines] == [2, 2, 2]
        assert {line.get_marker() for line in lines} == {"o"}


def test_what_was_not_measured_is_not_drawn():
    def metrics(epoch):
        return SimpleNamespace(
            epoch=epoch, result=0.2, test_loss=0.2, train_loss=math.nan, samples_so_far=600 * epoch
        )

    assert "train-losses" not in draw_courses(compared([400], [metrics(1), metrics(2)]))


def test_dollar_signs_in_names_begin_no_formula(tmp_path):
    results = replace(compared([400]), title="US$ and CA$ of prices_${.csv$", is_contest=True)
    assert [path.name for path in draw_plots(results, tmp_path)] == ["costs.png"]


def test_the_differences_stand_beside_the_margin():
    axis = draw_differences(compared([400, 400])).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["ours", "fewer epochs"]
    upright = {line.get_xdata()[0] for line in axis.lines if len(set(line.get_xdata())) == 1}
    assert {0, 0.001} <= upright, "less of a loss is better: the margin lies above 0"
    assert "better to the left" in axis.get_xlabel()


def test_without_a_margin_there_is_no_line_of_one():
    axis = draw_differences(replace(compared([400, 400]), margin=0.0)).axes[0]
    assert "margin" not in [text.get_text() for text in axis.texts]
    assert sum(line.get_linestyle() == "--" for line in axis.lines) == 0


def test_the_noise_of_a_contest_names_the_policies_of_every_cost():
    metrics = [SimpleNamespace(epoch=epoch, noise_ratio=1.5, bias=0.0) for epoch in (1, 2)]
    arms = [
        ArmRuns(Arm(PRUNED, Variant(policy, target=target)), policy, {0: ran(0.1, 400, metrics)})
        for policy, target in (("random", 0.3), ("random", 0.5), ("spaced", 0.5))
    ]
    figure = draw_noise(Results("a contest", LOSS, arms, None, 0.001, [], is_contest=True))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["random", "spaced"]


def test_an_arm_has_one_color_in_all_plots():
    metrics = [
        SimpleNamespace(
            epoch=epoch,
            result=0.3 - epoch / 9,
            test_loss=0.2,
            train_loss=0.2,
            samples_so_far=600 * epoch,
            num_kept=9,
            num_samples=9,
        )
        for epoch in range(3)
    ]
    results = compared([400, 400], metrics)
    differences = draw_differences(results).axes[0]
    course = draw_courses(results)["results"].axes[0]
    kept = draw_kept(results).axes[0]
    by_label = {line.get_label(): line.get_color() for line in course.lines}
    assert by_label == {line.get_label(): line.get_color() for line in kept.lines}
    points = [line.get_color() for line in differences.lines if line.get_marker() == "o"]
    assert points == [by_label["ours"], by_label["fewer epochs"]]


def test_the_pruned_arms_of_a_sweep_have_colors_of_their_own():
    """Their controls, of which each has its own, are in the table alone."""
    metrics = [
        SimpleNamespace(epoch=epoch, num_kept=9 - epoch, num_samples=9, test_loss=2.0, result=0.1)
        for epoch in range(3)
    ]
    arms = [ArmRuns(Arm(FULL), "full data", {0: ran(0.12, 600, metrics)})]
    for ratio in (0.3, 0.5, 0.7, 0.9):
        variant = Variant("infobatch", ratio)
        arms.append(ArmRuns(Arm(PRUNED, variant), f"r={ratio}", {0: ran(0.1, 400, metrics)}))
        arms += [
            ArmRuns(Arm(kind, variant), "fewer epochs", {0: ran(0.1, 400, metrics)})
            for kind in (FEWER, FEWER_SCALED)
        ]
    results = Results("a sweep", LOSS, arms, arms[0], 0.001, [])
    lines = draw_kept(results).axes[0].lines
    assert len({line.get_color() for line in lines}) == len(lines) == 5
    labels = [label.get_text() for label in draw_differences(results).axes[0].get_yticklabels()]
    assert labels[:3] == ["r=0.3", "– fewer epochs", "– fewer epochs"], "as in the table"


def test_a_result_that_is_no_loss_has_the_test_loss_beside_it():
    metrics = SimpleNamespace(epoch=2, result=4.1, test_loss=0.3, train_loss=0.3, samples_so_far=600)
    assert "test-losses" in draw_courses(compared([400], [metrics]))
