"""A static part of a training set, chosen by a signal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from infobatch.dynamics.signals import EASY_IF_HIGH
from infobatch.scores.columns import IndexArray


def coreset(
    signals: Mapping[str, np.ndarray],
    keep: float,
    by: str = "mean_loss",
    prefer: Literal["hard", "easy"] = "hard",
) -> IndexArray:
    """Choose the samples to keep of a training set.

    Args:
        signals: What :meth:`Dynamics.signals` gave.
        keep: The share to keep, in (0, 1).
        by: The signal to go by. Of samples that are equal by it, which ones are kept is drawn.
        prefer: ``"hard"`` keeps those of high loss, low confidence or margin, learned late or forgotten;
            ``"easy"`` the others. Wrong labels are hard by loss, confidence, margin and correctness, and
            are then among the first, or left out; they are not by variability or forgetting.

    Returns:
        Their indices in rising order, int64 (n,). Samples that were never trained come last.

    Raises:
        ValueError: If there is no such signal, it tells no sample from another, or the share is out of
            range.
    """
    if not 0 < keep < 1:
        raise ValueError(f"keep is {keep:g}; give a share above 0 and below 1, such as 0.5")
    if prefer not in ("hard", "easy"):
        raise ValueError(f"prefer is {prefer!r}; choose 'hard' or 'easy'")
    if by not in signals or by == "index":
        names = ", ".join(name for name in signals if name != "index")
        raise ValueError(f"there is no signal {by!r} in what was recorded; there are {names}")
    values = np.asarray(signals[by], np.float64).copy()
    if by == "learned_epoch":
        values[values < 0] = np.inf  # never: the hardest
    known = ~np.isnan(values)
    if by not in ("times_trained", "times_left_out"):
        known &= np.asarray(signals.get("times_trained", 1)) > 0
    if not known.any() or values[known].min() == values[known].max():
        raise ValueError(f"all samples have the same {by}, which tells none from another; take another")
    if (by in EASY_IF_HIGH) == (prefer == "hard"):
        values = -values
    number = max(1, round(keep * len(values)))
    ties = np.random.default_rng(0).permutation(len(values))
    chosen: IndexArray = np.sort(np.lexsort((ties, -values, ~known))[:number])
    return chosen
