"""Why a policy wins or loses: the noise and bias of its steps, and which samples it trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.results import Results
from infobatch.lab.runs.records import EpochMetrics

Measured = dict[tuple[int, int], float]
"""A measured quantity by seed and epoch."""


@dataclass(frozen=True)
class NoiseRow:
    """One policy: means over the epochs that were measured, and over seeds.

    Args:
        label: The policy and its cost.
        ratio: The noise of a step's gradient relative to full data's, see
            :mod:`infobatch.lab.training.gradient_noise`.
        late: The ratio in the last third of the measured epochs.
        highest: The ratio in the epoch where it is highest.
        to_paper: The ratio relative to the paper's rule, in the same epochs of the same seeds and at the
            same cost; None for that rule itself, or without it.
        late_to_paper: ``to_paper`` in the last third of the measured epochs.
        bias: How far the expected gradient is off, as a share of full data's.
        effective_share: How many samples of equal weight a selection is worth, as a share of all.
        visits: See :class:`Summary`.
        class_balance: See :class:`Summary`.
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
    """A row for each policy whose noise was measured.

    Args:
        results: What the report shows.

    Returns:
        The rows in the order of the arms.
    """
    rows = []
    for ours in results.pruned:
        ratios = measured(ours, lambda m: m.noise_ratio)
        if not ratios:
            continue
        mean, late = _means(ratios)
        theirs = measured(results.paper_rule_beside(ours), lambda m: m.noise_ratio)
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
    """A quantity in those of an arm's epochs in which it was measured."""
    values = {
        (seed, metrics.epoch): quantity(metrics)
        for seed, run in (arm.runs if arm else {}).items()
        for metrics in run.metrics
    }
    return {key: value for key, value in values.items() if value is not None}


def by_epoch(values: Measured) -> dict[int, float]:
    """The mean over seeds for each epoch, in the order of the epochs."""
    epochs = sorted({epoch for _, epoch in values})
    return {epoch: fmean(v for (_, e), v in values.items() if e == epoch) for epoch in epochs}


def _mean(values: Measured) -> float | None:
    return fmean(values.values()) if values else None


def _means(values: Measured) -> tuple[float, float]:
    """The means over all epochs and over the last third of them."""
    epochs = sorted({epoch for _, epoch in values})
    first = epochs[-math.ceil(len(epochs) / 3)]
    return fmean(values.values()), fmean(v for (_, epoch), v in values.items() if epoch >= first)


NOISE_HEADINGS = (
    *("", "noise", "noise late", "noise highest", "/ InfoBatch", "/ InfoBatch late"),
    *("bias", "effective", "visits", "classes"),
)
PAPER_COLUMNS = (4, 5)
NOISE_NOTE = (
    "Noise: the variance of a step's gradient, relative to full data at equal batches (1: as noisy), "
    "by true gradients of single samples; a budget's noise is another ratio, to a batch of full data. "
    "Late: in the last third of the epochs measured; / InfoBatch: relative to its noise in the same "
    "epochs of the same seeds. Bias: how far the expected gradient is off, relative to full data's; "
    "little noise says nothing good of a step in a wrong direction. Effective: what a selection is "
    "worth in samples of equal weight. Visits: how often samples were trained, quantiles of 5, 50 and "
    "95 %. Classes: the least and the most trained, relative to their share of the data."
)


def noise_table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Headings and rows; without the paper's rule there are no columns relative to it."""
    rows = noise_rows(results)
    lines = [_cells(row) for row in rows]
    if any(row.to_paper is not None for row in rows):
        return list(NOISE_HEADINGS), lines
    kept = [place for place in range(len(NOISE_HEADINGS)) if place not in PAPER_COLUMNS]
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
