"""What budgets of noise would save, as a plot."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from infobatch.noise import NormsFrom
from infobatch.prediction import predict_budgets
from infobatch.schedule import Schedule
from infobatch.scores.table import ScoreTable

DRAWN = tuple(np.round(np.geomspace(1.01, 3, 25), 3).tolist())
MARKED = 1.1


def draw_budgets(scores: ScoreTable, schedule: Schedule, norms_from: NormsFrom) -> Figure:
    """The share left out of a pruned epoch against the noise of a step, beside random pruning.

    Args:
        scores: See :func:`predict_budgets`; so are ``schedule`` and ``norms_from``.
        schedule: Which epochs would be pruned.
        norms_from: What losses are.
    """
    savings = predict_budgets(scores, schedule, norms_from, DRAWN)
    marked = predict_budgets(scores, schedule, norms_from, (MARKED,))[0].saving.epoch
    shares = [100 * each.saving.epoch for each in savings]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(DRAWN, shares, color="#0072B2", label="noise budget")
    axes.plot(DRAWN, [100 * (1 - 1 / noise) for noise in DRAWN], color="#999999", label="random pruning")
    axes.plot(MARKED, 100 * marked, "o", color="#0072B2")
    axes.annotate(
        f"{marked:.0%} at {MARKED:g}",
        (MARKED, 100 * marked),
        textcoords="offset points",
        xytext=(8, -4),
        va="top",
    )
    axes.set(
        xlabel="noise of a step (1: full data; 2: half the batch)",
        ylabel="left out of a pruned epoch (%)",
        ylim=(0, 100),
        xlim=(1, DRAWN[-1]),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    return figure
