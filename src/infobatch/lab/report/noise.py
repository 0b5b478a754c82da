"""Why a policy wins or loses: the noise and the bias of its steps, and whom it trains on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from infobatch.lab.report.duels import PAPER
from infobatch.lab.report.results import ArmRuns, Results
from infobatch.lab.runs.records import EpochMetrics

Measured = dict[tuple[int, int], float]
"""What was measured, by (seed, epoch)."""


@dataclass(frozen=True)
class NoiseRow:
    """One policy, in means over the epochs that were measured and over seeds.

    ``ratio``: of noise, see :mod:`infobatch.lab.training.gradient_noise`; ``late``: in the last third of
    the epochs; ``highest``: of any epoch. ``to_paper`` and ``late_to_paper``: relative to the paper's
    rule in the same epochs of the same seeds, at the same cost. ``visits`` and ``class_balance``: see
    :class:`Summary`.
    """

    label: str
    ratio: float
    late: float
    highest: float
    to_paper: float | None
    late_to_paper: float | None
    bias: float | None
    effective_share: float | None
    visits: Sequence[float]
    class_balance: Sequence[float]


def noise_rows(results: Results) -> list[NoiseRow]:
    """Each policy that was probed."""
    rows = []
    for ours in results.pruned:
        ratios = measured(ours, lambda m: m.noise_ratio)
        if not ratios:
            continue
        mean, late = _means(ratios)
        paper = next((arm for arm in results.alike(ours) if arm.policy == PAPER), None)
        theirs = measured(paper, lambda m: m.noise_ratio) if paper not in (None, ours) else {}
        common = {key: ratios[key] / theirs[key] for key in ratios if key in theirs}
        to_paper, late_to_paper = _means(common) if common else (None, None)
        summaries = [run.summary for run in ours.runs.values()]
        rows.append(
            NoiseRow(
                ours.label,
                mean,
                late,
                max(by_epoch(ratios).values()),
                to_paper,
                late_to_paper,
                _mean(measured(ours, lambda m: m.bias)),
                _mean(measured(ours, lambda m: m.effective_share)),
                [fmean(values) for values in zip(*(s.visits for s in summaries), strict=True)],
                [fmean(values) for values in zip(*(s.class_balance for s in summaries), strict=True)],
            )
        )
    return rows


def measured(arm: ArmRuns | None, quantity: Callable[[EpochMetrics], float | None]) -> Measured:
    """A quantity of an arm's epochs, without those that have none."""
    values = {
        (seed, metrics.epoch): quantity(metrics)
        for seed, run in (arm.runs if arm else {}).items()
        for metrics in run.metrics
    }
    return {key: value for key, value in values.items() if value is not None}


def by_epoch(values: Measured) -> dict[int, float]:
    """Means over seeds, in the order of the epochs."""
    epochs = sorted({epoch for _, epoch in values})
    return {epoch: fmean(v for (_, e), v in values.items() if e == epoch) for epoch in epochs}


def _mean(values: Measured) -> float | None:
    return fmean(values.values()) if values else None


def _means(values: Measured) -> tuple[float, float]:
    """Over all, and over the last third of the epochs."""
    epochs = sorted({epoch for _, epoch in values})
    first = epochs[-math.ceil(len(epochs) / 3)]
    return fmean(values.values()), fmean(v for (_, epoch), v in values.items() if epoch >= first)


NOISE_HEADINGS = (
    *("", "noise", "noise late", "noise highest", "/ InfoBatch", "/ InfoBatch late"),
    *("bias", "effective", "visits", "classes"),
)
BESIDE_PAPER = (4, 5)
NOISE_NOTE = (
    "Noise: of a step's gradient, relative to full data at the same batch size (1: as noisy), by true "
    "gradients of single samples; late: in the last third of the epochs measured; / InfoBatch: relative "
    "to its noise in the same epochs of the same seeds. Bias: how far the expected gradient is off, "
    "relative to full data's; little noise says nothing good of a step in a wrong direction. Effective: "
    "what a selection is worth in samples of equal weight. Visits: "
    "how often samples were trained, quantiles of 5, 50 and 95 %. Classes: the least and the most "
    "trained, relative to their share of the data."
)


def noise_table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Headings and rows; without the paper's rule no columns beside it."""
    rows = noise_rows(results)
    lines = [_cells(row) for row in rows]
    if any(row.to_paper is not None for row in rows):
        return list(NOISE_HEADINGS), lines
    kept = [place for place in range(len(NOISE_HEADINGS)) if place not in BESIDE_PAPER]
    return [NOISE_HEADINGS[place] for place in kept], [[line[p] for p in kept] for line in lines]


def _cells(row: NoiseRow) -> list[str]:
    return [
        row.label,
        f"{row.ratio:.2f}",
        f"{row.late:.2f}",
        f"{row.highest:.2f}",
        _text(row.to_paper, ".2f"),
        _text(row.late_to_paper, ".2f"),
        "0" if row.bias == 0 else _text(row.bias, ".2f"),
        _text(row.effective_share, ".1%"),
        ", ".join(f"{visits:.3g}" for visits in row.visits),
        "–".join(f"{share:.2f}" for share in row.class_balance),
    ]


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
