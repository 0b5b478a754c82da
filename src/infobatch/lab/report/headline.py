"""What a reader sees first: a word on each pruned arm, and the three figures that matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.paired import Difference, judge
from infobatch.lab.report.results import Results
from infobatch.lab.report.verdict import why_unjudged


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
    """A headline for each pruned arm; none for a contest, or without full data."""
    if results.full is None or results.is_contest:
        return []
    made = [_headline(arm, results.full, results) for arm in results.pruned]
    return [each for each in made if each is not None]


def _headline(ours: ArmRuns, full: ArmRuns, results: Results) -> Headline | None:
    difference = Difference.of(ours.runs, full.runs)
    if difference is None:
        return None
    metric = results.metric
    interval = f"{metric.signed(difference.low)} to {metric.signed(difference.high)}, 95 % interval"
    if difference.num_pairs == 1:
        interval = "one seed"
    points = " points" * (metric.unit == "%")
    figures = [
        Figure(f"{100 * results.saved(ours):.0f} %", f"of the {ours.saves} saved"),
        Figure(
            metric.signed(difference.mean) + points,
            f"{metric.name} against full data ({interval})",
        ),
        Figure(
            f"{_seconds(ours.mean('seconds'))} s",
            f"of training, {_seconds(full.mean('seconds'))} s on full data",
        ),
    ]
    unjudged = why_unjudged(ours, full, difference, results)
    if unjudged is not None:
        word = unjudged.word
    else:
        word = judge(difference, results.margin) if results.margin else "no verdict"
    return Headline(ours.label, word, figures)


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"
