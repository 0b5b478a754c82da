"""Signals of the data from recorded epochs: sums over epochs, kept for each sample."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from infobatch.dynamics.files import EpochRecord
from infobatch.scores.columns import FloatArray

SIGNALS = {
    "index": "The sample's index in the dataset.",
    "times_trained": "The recorded epochs that trained it.",
    "times_left_out": "Those, since it is in the dataset, that left it out or did not reach it.",
    "first_loss": "Its loss the first time, NaN where it has none.",
    "last_loss": "Its loss the last time.",
    "mean_loss": "The mean of its losses.",
    "std_loss": "Their standard deviation, 0 for a single one.",
    "confidence": "The mean probability of its own class: as recorded, else exp(-loss), which it is for "
    "a cross-entropy without smoothing or class weights (Swayamdipta et al., 2020). NaN where losses of "
    "the run lie below 0, as those of densities do.",
    "variability": "The standard deviation of that probability (Swayamdipta et al., 2020).",
    "correctness": "The share of its epochs in which it was classified right: with a margin above 0 "
    "(Swayamdipta et al., 2020).",
    "forgetting": "How often it was right, and wrong the next time (Toneva et al., 2019).",
    "learned_epoch": "The epoch from which on it was always right; -1 if it was wrong the last time "
    "(Toneva et al., 2019).",
    "aum": "The area under the margin: the mean of its margins (Pleiss et al., 2020).",
}
"""What :meth:`Dynamics.signals` tells of a sample, by the name of its column. Those from ``correctness``
on need margins."""

ROUNDING = 1e-3
"""How far below 0 a cross-entropy may lie by the rounding of what it is made of."""

EASY_IF_HIGH = ("times_left_out", "confidence", "correctness", "aum")
"""The signals that are high for an easy sample; the others are for a hard one."""


class SignalTable(dict[str, np.ndarray]):
    """Columns (N,) by name; ``KeyError`` for one that is not there says why."""

    def __missing__(self, name: str) -> np.ndarray:
        if name in SIGNALS:
            raise KeyError(
                f"the signal {name!r} needs margins, and none were recorded: give update(..., margins="
                "classification_margins(logits, labels))"
            )
        raise KeyError(f"there is no signal {name!r}; there are {', '.join(self)}")


class _Moments:
    """Mean and standard deviation of each sample's numbers, by Welford's sums; NaN is passed over."""

    def __init__(self, num_samples: int) -> None:
        self._count = np.zeros(num_samples, np.int64)
        self._mean = np.zeros(num_samples)
        self._squares = np.zeros(num_samples)

    def add(self, index: np.ndarray, values: np.ndarray) -> None:
        known = ~np.isnan(values)
        index, values = index[known], values[known].astype(np.float64)
        self._count[index] += 1
        before = values - self._mean[index]
        self._mean[index] += before / self._count[index]
        self._squares[index] += before * (values - self._mean[index])

    @property
    def mean(self) -> np.ndarray:
        return np.where(self._count > 0, self._mean, np.nan)

    @property
    def std(self) -> np.ndarray:
        count = np.maximum(self._count, 1)
        return np.where(self._count > 0, np.sqrt(self._squares / count), np.nan)


class _Turns:
    """When each sample was classified right, from its margins."""

    def __init__(self, num_samples: int) -> None:
        self._count = np.zeros(num_samples, np.int64)
        self._num_right = np.zeros(num_samples, np.int64)
        self._was_right = np.zeros(num_samples, bool)
        self.forgetting = np.zeros(num_samples, np.int64)
        self.learned_epoch = np.full(num_samples, -1)

    def add(self, epoch: int, index: np.ndarray, margin: np.ndarray) -> None:
        known = ~np.isnan(margin)
        index, right = index[known], margin[known] > 0
        was_right = self._was_right[index]
        self.forgetting[index] += was_right & ~right
        self.learned_epoch[index[right & ~was_right]] = epoch
        self.learned_epoch[index[~right]] = -1
        self._was_right[index] = right
        self._num_right[index] += right
        self._count[index] += 1

    @property
    def correctness(self) -> np.ndarray:
        return np.where(self._count > 0, self._num_right / np.maximum(self._count, 1), np.nan)


def signals_of(epochs: Iterable[EpochRecord], num_samples: int) -> dict[str, np.ndarray]:
    """The columns of :data:`SIGNALS` whose source was recorded, each (N,).

    Args:
        epochs: The recorded epochs, in order, all with the same columns. One is in memory at a time.
        num_samples: N.
    """
    times_trained = np.zeros(num_samples, np.int64)
    times_left_out = np.zeros(num_samples, np.int64)
    first_loss = np.full(num_samples, np.nan, np.float32)
    last_loss = first_loss.copy()
    losses, confidences = _Moments(num_samples), _Moments(num_samples)
    margins, turns = None, None
    are_densities = False
    for record in epochs:
        index, loss = record.index, record.loss
        times_trained[index] += 1
        times_left_out[: record.num_samples] += 1
        times_left_out[index] -= 1
        known = ~np.isnan(loss)
        last_loss[index[known]] = loss[known]
        first_loss = np.where(np.isnan(first_loss), last_loss, first_loss)
        losses.add(index, loss)
        are_densities |= record.confidence is None and bool((loss < -ROUNDING).any())
        confidences.add(index, _confidence(record))
        if record.margin is not None:
            margins = margins or _Moments(num_samples)
            turns = turns or _Turns(num_samples)
            margins.add(index, record.margin)
            turns.add(record.epoch, index, record.margin)
    table = SignalTable(
        index=np.arange(num_samples),
        times_trained=times_trained,
        times_left_out=times_left_out,
        first_loss=first_loss,
        last_loss=last_loss,
        mean_loss=losses.mean,
        std_loss=losses.std,
        confidence=np.full(num_samples, np.nan) if are_densities else confidences.mean,
        variability=np.full(num_samples, np.nan) if are_densities else confidences.std,
    )
    if margins is not None and turns is not None:
        table["correctness"] = turns.correctness
        table["forgetting"] = turns.forgetting
        table["learned_epoch"] = turns.learned_epoch
        table["aum"] = margins.mean
    return table


def _confidence(record: EpochRecord) -> FloatArray:
    if record.confidence is not None:
        return record.confidence
    confidence: FloatArray = np.exp(-np.maximum(record.loss, 0))
    return confidence
