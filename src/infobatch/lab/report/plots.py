"""Results as plots: lines are means over seeds, bands reach from the lowest to the highest seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from infobatch.lab.comparison.variants import (
    CONTROLS,
    FEWER,
    FEWER_SCALED,
    FULL,
    PRUNED,
    SAME_STEPS,
)
from infobatch.lab.config.noise_budget import without_budget
from infobatch.lab.files import FREE, write_whole
from infobatch.lab.report.arms import ArmRuns, Run
from infobatch.lab.report.noise import by_epoch, measured
from infobatch.lab.report.results import Results
from infobatch.lab.runs.records import SCORE_QUANTILES, EpochMetrics

Course = Callable[[Run], list[float]]
"""The place of each epoch of a run along an axis."""
Quantity = Callable[[EpochMetrics], float | None]
"""What is plotted of an epoch; None where it was not measured, as not every epoch is evaluated."""

LEAST_SEEDS = 4
"""The interval of fewer seeds is too wide to say anything, and is not drawn."""
SHIFT = 0.3
"""The distance between policies of one cost that are drawn side by side, in % of full data's cost."""
MOST_NOISE = 4.0
"""Where the plot of noise is cut off, relative to full data's noise."""

SIZE = (6.4, 4.0)
"""Of a plot of which two lie side by side on a wide page, in inches."""

# Okabe & Ito: told apart by readers with any color vision.
COLORS = ("#000000", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
FEWEST_COSTS = 3
"""Of so many pruned arms or more, results are also drawn against costs."""
MARKERS = "os^Dv"
"""The marker changes after each round of the colors."""


@rc_context({"text.parse_math": False})  # names of files and metrics may have dollar signs
def draw_plots(results: Results, folder: Path) -> list[Path]:
    """Draw all plots of a report.

    Args:
        results: What to show.
        folder: Where the PNG files are written.

    Returns:
        Their paths, in reading order.
    """
    if results.is_contest:  # of dozens of arms, whose courses could not be told apart
        figures = {"costs.png": draw_costs(results)}
    else:
        figures = {"differences.png": draw_differences(results)} if results.full else {}
        figures |= {f"{name}.png": figure for name, figure in draw_courses(results).items()}
        figures["kept.png"] = draw_kept(results)
        if any(map(_has_scores_over_time, _without_controls(results)[:2])):
            figures["scores.png"] = draw_scores(results)
        if len(results.pruned) >= FEWEST_COSTS:
            figures["costs.png"] = draw_costs(results)
    if any(measured(arm, lambda m: m.noise_ratio) for arm in results.pruned):
        figures["noise.png"] = draw_noise(results)
    for name, figure in figures.items():
        write_whole(folder / name, partial(figure.savefig, format="png", dpi=110), FREE)
    return [folder / name for name in figures]


def draw_costs(results: Results) -> Figure:
    """The last epoch's result against cost, with 95 % intervals; a line joins fewer epochs' results."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axis = figure.subplots()
    line = [arm for arm in results.arms if arm.kind in (FULL, FEWER, FEWER_SCALED)]
    same = [arm for arm in results.arms if arm.kind == SAME_STEPS]
    lines = {"full data, fewer epochs": line, **_by_policy(results)}
    if same:
        lines["fewer epochs, same steps"] = same
    for place, (name, arms) in enumerate(lines.items()):
        arms = sorted(arms, key=results.cost)
        # Side by side, for at each cost there is one point of each policy.
        shift = SHIFT * (place - len(lines) / 2) if place else 0
        axis.errorbar(
            [100 * results.cost(arm) + shift for arm in arms],
            [arm.result for arm in arms],
            [arm.half_interval if len(arm.runs) >= LEAST_SEEDS else 0 for arm in arms],
            linestyle="-" if place == 0 else ":",
            marker=MARKERS[place // len(COLORS) % len(MARKERS)],
            color=COLORS[place % len(COLORS)],
            capsize=2,
            lw=1.5 if place == 0 else 0.8,
            label=name,
        )
    axis.set(
        xlabel="cost, % of full data's (policies of one cost are drawn side by side)",
        ylabel=f"{_on_test(results)} (95 % intervals from {LEAST_SEEDS} seeds on)",
        title=results.title,
    )
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _by_policy(results: Results) -> dict[str, list[ArmRuns]]:
    """The arms of each policy, and of the controls that are one."""
    policies: dict[str, list[ArmRuns]] = {}
    names = {
        kind: control.policy + ", same steps" * (control.shrink == "batches")
        for kind, control in CONTROLS.items()
        if not control.is_shorter
    }
    for arm in results.arms:
        if arm.kind in (PRUNED, *names):
            policy, _ = without_budget(arm.policy)  # its budgets lie on one line
            policies.setdefault(names.get(arm.kind, policy), []).append(arm)
    return policies


def draw_noise(results: Results) -> Figure:
    """A step's noise relative to full data's, and its bias if any; a column for each cost."""
    columns: dict[float | None, list[ArmRuns]] = {}
    for arm in results.pruned:
        assert arm.arm.variant is not None
        columns.setdefault(arm.arm.variant.target, []).append(arm)
    places = {name: place for place, name in enumerate(_by_policy(results), 1)}  # as in draw_costs
    rows: list[tuple[str, Quantity]] = [
        ("noise at equal batches (full data: 1)", lambda m: m.noise_ratio)
    ]
    if any(any(measured(arm, lambda m: m.bias).values()) for arm in results.pruned):
        rows.append(("bias, as a share of the gradient", lambda m: m.bias))
    figure = Figure(figsize=(2 + 4.5 * len(columns), 3.8 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), sharex=True, sharey="row", squeeze=False)
    for column, (cost, arms) in zip(grid.T, columns.items(), strict=True):
        for axis, (label, quantity) in zip(column, rows, strict=True):
            for arm in arms:
                place = places[without_budget(arm.policy)[0]]
                means = by_epoch(measured(arm, quantity))
                if label == rows[0][0] or any(means.values()):
                    name = arm.label if cost is None else arm.policy
                    style = ("-", "--", ":")[place // len(COLORS) % 3]
                    color = COLORS[place % len(COLORS)]
                    color = color if results.is_contest else _color(results, arm)
                    epochs = [epoch + 1 for epoch in means]
                    axis.plot(epochs, list(means.values()), style, color=color, label=name, lw=1.3)
            _count_epochs(axis)
        column[0].axhline(1, ls="--", color="gray", lw=1)
        column[0].set_title("" if cost is None else f"{100 * cost:g} % saved")
        column[-1].set_xlabel("epochs trained")
    for axis, (label, _) in zip(grid[:, 0], rows, strict=True):
        axis.set_ylabel(label)
    grid[0, 0].set_ylim(top=min(MOST_NOISE, grid[0, 0].get_ylim()[1]))
    named = {
        label: line
        for axis in grid[0]
        for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named.keys(), loc="outside right upper", fontsize=8)
    figure.suptitle(results.title)
    return figure


def draw_differences(results: Results) -> Figure:
    """Each arm's difference to full data, with its 95 % interval; the margin, if any, as a line."""
    rows = zip(results.arms, results.rows(), strict=True)
    drawn = [(arm, row.label, row.to_full) for arm, row in rows if row.to_full is not None]
    figure = Figure(figsize=(7.5, 1.4 + 0.38 * len(drawn)), layout="constrained")
    axis = figure.subplots()
    axis.margins(y=0.12)
    for place, (arm, _, each) in enumerate(drawn):
        half = each.high - each.mean if each.num_pairs > 1 else 0
        axis.errorbar(each.mean, place, xerr=half, fmt="o", color=_color(results, arm), capsize=3, lw=2)
    metric = results.metric
    axis.axvline(0, color="black", lw=1)
    if results.margin:
        margin = -metric.gain(results.margin)
        axis.axvline(margin, color="#D55E00", ls="--", lw=1)
        above = (margin, 1.01)
        axis.annotate("margin", above, xycoords=("data", "axes fraction"), ha="center", fontsize=8)
    axis.set_yticks(range(len(drawn)), [label for _, label, _ in drawn])
    axis.invert_yaxis()
    side = "right" if metric.higher_is_better else "left"
    unit = "points of " * (metric.unit == "%")
    axis.set_xlabel(f"difference to full data, {unit}test {metric.name} (better to the {side})")
    axis.grid(alpha=0.3, axis="x")
    return figure


def draw_courses(results: Results) -> dict[str, Figure]:
    """Results and losses over the run, a plot for each that was measured, by their names."""
    on_test = _on_test(results)
    courses: dict[str, tuple[Course, str, Quantity]] = {
        "results": (_samples, on_test, lambda m: m.result),
        "results-by-epoch": (_epochs, on_test, lambda m: m.result),
        "train-losses": (_epochs, "train loss (weighted)", lambda m: m.train_loss),
    }
    each_epoch = (m for arm in results.arms for run in arm.runs.values() for m in run.metrics)
    if any(m.test_loss != m.result for m in each_epoch):  # else the result is that loss
        courses["test-losses"] = (_epochs, "test loss", lambda m: m.test_loss)
    drawn = {name: _draw_course(results, *course) for name, course in courses.items()}
    return {name: figure for name, figure in drawn.items() if figure.axes[0].lines}


def _draw_course(results: Results, x: Course, label: str, quantity: Quantity) -> Figure:
    figure = Figure(figsize=SIZE, layout="constrained")
    axis = figure.subplots()
    shown = _few_arms(results)
    for arm in shown:
        _band(axis, arm, x, quantity, _color(results, arm))
    axis.set(xlabel="epochs" if x is _epochs else "samples processed", ylabel=label)
    if x is _epochs:
        _count_epochs(axis)
    else:
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.grid(alpha=0.3)
    late = [value for arm in shown for run in arm.runs.values() for value in _late(run, quantity)]
    if late and min(late) < max(late):
        pad = 0.08 * (max(late) - min(late))
        axis.set_ylim(min(late) - pad, max(late) + pad)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)
    return figure


def _late(run: Run, quantity: Quantity) -> list[float]:
    """What a run measured after its first quarter, by which an axis is cut: differences are small."""
    values = [quantity(m) for m in run.metrics[len(run.metrics) // 4 :]]
    return [value for value in values if value is not None and math.isfinite(value)]


def draw_kept(results: Results) -> Figure:
    """The share of samples kept in each epoch."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axis = figure.subplots()
    for arm in _few_arms(results):
        _band(axis, arm, _epochs, lambda m: 100 * m.num_kept / m.num_samples, _color(results, arm))
    axis.set(xlabel="epoch", ylabel="samples trained, %", ylim=(0, 105))
    _count_epochs(axis)
    axis.legend(fontsize=8)
    return figure


def _has_scores_over_time(arm: ArmRuns) -> bool:
    """Whether scores are known of several epochs; a function of the user's has them at its end."""
    metrics = next(iter(arm.runs.values())).metrics
    return sum(None not in m.score_quantiles for m in metrics) > 1


def draw_scores(results: Results) -> Figure:
    """The distribution of all samples' scores over time, for full data and the first pruned arm."""
    shown = _without_controls(results)[:2]
    figure = Figure(figsize=(5 * len(shown), 3.8), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    for axis, arm in zip(axes, shown, strict=True):
        metrics = next(iter(arm.runs.values())).metrics
        epochs = [m.epoch + 1 for m in metrics]
        quantiles = np.array([m.score_quantiles for m in metrics], dtype=float).T
        axis.fill_between(epochs, quantiles[0], quantiles[-1], alpha=0.2, color=COLORS[1], lw=0)
        axis.fill_between(epochs, quantiles[1], quantiles[-2], alpha=0.35, color=COLORS[1], lw=0)
        axis.plot(epochs, quantiles[len(SCORE_QUANTILES) // 2], color=COLORS[1])
        axis.set(title=arm.label, xlabel="epoch")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("score (last loss)")
    figure.suptitle("Scores of all samples: median, middle 50 % and 90 % (first seed)", fontsize=10)
    return figure


def _on_test(results: Results) -> str:
    """The label of an axis of results."""
    metric = results.metric
    return f"test {metric.name}" + (f", {metric.unit}" if metric.unit else "")


def _without_controls(results: Results) -> Sequence[ArmRuns]:
    return [arm for arm in results.arms if arm.kind not in CONTROLS]


def _few_arms(results: Results) -> Sequence[ArmRuns]:
    """All arms where one was pruned; else those that are no controls, which would be too many."""
    return results.arms if len(results.pruned) == 1 else _without_controls(results)


def _count_epochs(axis: Axes) -> None:
    """Whole numbers along an axis of epochs, and a grid."""
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)


def _color(results: Results, arm: ArmRuns) -> str:
    """An arm's color, the same in all plots; no two have one where no more than COLORS are drawn."""
    drawn_first = sorted(results.arms, key=lambda each: each.kind in CONTROLS)
    return COLORS[drawn_first.index(arm) % len(COLORS)]


def _band(
    axis: Axes,
    arm: ArmRuns,
    x: Course,
    y: Quantity,
    color: str,
) -> None:
    """Draw the mean of an arm's runs as a line, and their range as a band."""
    ys = [np.array([y(m) for m in run.metrics], dtype=float) for run in arm.runs.values()]
    known = [~np.isnan(values) for values in ys]
    xs = [np.array(x(run))[there] for run, there in zip(arm.runs.values(), known, strict=True)]
    ys = [values[there] for values, there in zip(ys, known, strict=True)]
    drawn = [pair for pair in zip(xs, ys, strict=True) if len(pair[0])]
    if not drawn:
        return
    xs, ys = map(list, zip(*drawn, strict=True))
    if all(len(points) == 1 for points in xs):  # evaluated at the end alone: a dot for each seed
        axis.plot(np.concatenate(xs), np.concatenate(ys), "o", color=color, label=arm.label, ms=4)
        return
    # Runs cut short at different epochs have no common points: lay them on a common grid.
    grid = np.linspace(max(points[0] for points in xs), np.mean([points[-1] for points in xs]), 200)
    curves = np.array([np.interp(grid, *pair) for pair in zip(xs, ys, strict=True)])
    is_dashed = arm.kind in CONTROLS and CONTROLS[arm.kind].policy == "random"
    style = "--" if is_dashed else "-"  # it may lie on the pruned arm's line
    axis.plot(grid, curves.mean(0), style, color=color, label=arm.label, lw=1.5)
    if len(curves) > 1:
        axis.fill_between(grid, curves.min(0), curves.max(0), color=color, alpha=0.15, lw=0)


def _epochs(run: Run) -> list[float]:
    return [min(m.epoch + 1, run.config.epochs) for m in run.metrics]


def _samples(run: Run) -> list[float]:
    return [m.samples_so_far for m in run.metrics]
