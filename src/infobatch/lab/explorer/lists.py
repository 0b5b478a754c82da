"""Lists of samples that are worth a look, made of the signals of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

LONGEST = 1000
"""How many samples a ranked list has at most."""
SHARE = 0.05
"""Which share of the samples a ranked list has at most, where its signal has no bound of its own."""


@dataclass(frozen=True)
class SampleList:
    """Some samples, in an order.

    Args:
        name: A short name, without spaces.
        title: What the page calls it.
        meaning: What is in it, in a sentence.
        by: The signal that it is ordered by; empty where that is none of the table's.
        indices: The samples, int64 (n,), the first to look at first.
    """

    name: str
    title: str
    meaning: str
    by: str
    indices: np.ndarray


def make_lists(signals: Mapping[str, np.ndarray]) -> list[SampleList]:
    """Make those lists that the signals allow.

    Args:
        signals: The table of :meth:`Dynamics.signals`, columns (N,).

    Returns:
        The lists that have any samples.
    """
    trained = signals["times_trained"] > 0
    made = [_suspects(signals, trained), _hard(signals, trained)]
    if "correctness" in signals:
        correctness = signals["correctness"]
        made += [
            SampleList(
                "never-learned",
                "Never learned",
                "Never classified right, the highest mean loss first.",
                "mean_loss",
                _ranked(-signals["mean_loss"], correctness == 0),
            ),
            SampleList(
                "learned-at-once",
                "Learned at once",
                "Classified right each time from the first, the lowest mean loss first.",
                "mean_loss",
                _ranked(signals["mean_loss"], correctness == 1),
            ),
        ]
    left_out = signals["times_left_out"]
    made.append(
        SampleList(
            "left-out",
            "Left out most",
            "Left out of the most epochs.",
            "times_left_out",
            _ranked(-left_out, left_out > 0)[: _longest(left_out)],
        )
    )
    return [each for each in made if len(each.indices)]


def _suspects(signals: Mapping[str, np.ndarray], trained: np.ndarray) -> SampleList:
    """Samples that are probably mislabelled.

    Source: Pleiss et al., Identifying Mislabeled Data using the Area Under the Margin Ranking, 2020.
    """
    if "aum" in signals:
        aum = signals["aum"]
        meaning = "Probably mislabelled: another class was the likelier on average, the clearest first."
        chosen = _ranked(aum, trained & (aum < 0))[:LONGEST]
        return SampleList("suspects", "Suspects", meaning, "aum", chosen)
    losses = signals["mean_loss"]
    return SampleList(
        "suspects",
        "Suspects",
        "Perhaps mislabelled: the highest mean loss. Recorded margins would tell more.",
        "mean_loss",
        _ranked(-losses, trained)[: _longest(losses)],
    )


def _hard(signals: Mapping[str, np.ndarray], trained: np.ndarray) -> SampleList:
    """Samples whose mean rank by loss and by variability is highest; without that, by the loss's own."""
    by = "variability" if np.isfinite(signals["variability"]).any() else "std_loss"
    from scipy.stats import rankdata  # takes its time

    ranks = [rankdata(np.nan_to_num(signals[name])) for name in ("mean_loss", by)]
    score = ranks[0] + ranks[1]
    chosen = _ranked(-score, trained & np.isfinite(signals[by]))[: _longest(score)]
    meaning = "A high loss that changes much from epoch to epoch."
    return SampleList("hard", "Hard", meaning, by, chosen)


def _longest(values: np.ndarray) -> int:
    return min(LONGEST, max(1, round(SHARE * len(values))))


def _ranked(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Those samples that are among them and have a value, the lowest first, int64 (n,)."""
    chosen = np.flatnonzero(among & np.isfinite(values))
    return chosen[np.argsort(values[chosen], kind="stable")]
