"""What a reader sees first: a word on each pruned arm, and the three figures that matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.paired import Difference
from infobatch.lab.report.results import Results
from infobatch.lab.report.verdict import judgements


@dataclass(frozen=True)
class Figure:
    """A number and what it says."""

    value: str
    meaning: str


@dataclass(frozen=True)
class Headline:
    """The verdict on a pruned arm.

    Args:
        label: The arm's name.
        word: The verdict.
        figures: What was saved, the difference to full data, and the seconds of training.
    """

    label: str
    word: str
    figures: Sequence[Figure]

    @property
    def kind(self) -> str:
        """The verdict as one word, by which it is colored."""
        return self.word.split()[0]


def headlines(results: Results) -> list[Headline]:
    """A headline for each judgement of a pruned arm that has seeds in common with full data."""
    return [
        Headline(arm.label, word, _figures(arm, difference, results))
        for arm, difference, word, _ in judgements(results)
        if difference is not None
    ]


def _figures(ours: ArmRuns, difference: Difference, results: Results) -> list[Figure]:
    assert results.full is not None
    metric = results.metric
    interval = f"{metric.signed(difference.low)} to {metric.signed(difference.high)}, 95 % interval"
    if difference.num_pairs == 1:
        interval = "one seed"
    points = " points" * (metric.unit == "%")
    return [
        Figure(f"{100 * results.saved(ours):.0f} %", f"of the {ours.saves} saved"),
        Figure(
            metric.signed(difference.mean) + points,
            f"{metric.name} against full data ({interval})",
        ),
        Figure(
            f"{_seconds(ours.mean('seconds'))} s",
            f"of training, {_seconds(results.full.mean('seconds'))} s on full data",
        ),
    ]


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"
