"""The columns of the score table, and how each follows a batch's losses or other signals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from infobatch.state import Array

IndexArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float32]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

NO_SCORE = -3.4028234663852886e38  # the lowest float32, which no loss takes
"""Stands for the loss of a sample that has none (no valid pixel, no supervised token)."""

ERRORS = "errors"
"""How it begins what losses look like that tell nothing of norms."""

# A column follows one of these: the batch's losses, a signal that comes with them, the draw, or time.

LOSSES = "losses"
"""What most columns follow: the losses, or scores in their place, that every batch brings."""
NORMS = "gradient_norms"
SIGNALS = {
    NORMS: "output_gradient_norms(losses, outputs)",
    "confidences": "classification_confidences(logits, targets)",
    "margins": "classification_margins(logits, targets)",
}
"""The other signals that a batch can bring, by the keyword that ``update`` takes them by. The values are
for error messages: calls that compute the signals, the last two for classification."""
DRAW = "draw"
"""What a column follows that no batch changes, only the draw of an epoch."""
CLOCK = "clock"
"""What a column follows that counts training, whatever comes of it: the number of a rank's batches."""


@dataclass(frozen=True)
class Column:
    """A number, or a row of numbers, that is kept for every sample.

    Args:
        dtype: How a number is stored.
        initial: The number of a sample that no batch has had yet.
        update: Gives the new values of a batch's samples, (B,) or (B, width), from their old ones and
            the batch's signal, (B,).
        signal: What the column follows: :data:`LOSSES`, a key of :data:`SIGNALS`, :data:`DRAW` or
            :data:`CLOCK`.
        width: The numbers kept for each sample; the column has shape (N,) if it is 1, the default, or
            else (N, width).
        training: Whether only training on a sample changes its value, and observing its loss does not.
        of_epoch: Whether it is of the epoch under way alone, and begins anew with each. No policy goes
            by it, so that its signal may be anything.
        again: What stands for ``update`` where a sample was trained before in the epoch, so that an
            epoch counts once; None where that is ``update``, too.
    """

    dtype: type[np.generic]
    initial: float
    update: Callable[[np.ndarray, np.ndarray], np.ndarray]
    signal: str = LOSSES
    width: int = 1
    training: bool = False
    of_epoch: bool = False
    again: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    def fields(self, num_samples: int) -> Array:
        """What a checkpoint holds of it."""
        values = torch.from_numpy(self.make(0))
        return Array(values.dtype, (num_samples, *values.shape[1:]), signed=True)

    def make(self, num_samples: int) -> np.ndarray:
        """The column at the beginning of a run.

        Args:
            num_samples: N.

        Returns:
            (N,), or (N, width) if the width is above 1.
        """
        shape = num_samples if self.width == 1 else (num_samples, self.width)
        return np.full(shape, self.initial, self.dtype)


SMOOTHING = 0.8
BATCH_SMOOTHING = 0.9


def latest(old: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The batch's values."""
    return values


def smoothed(old: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The running mean 0.8 s + 0.2 x of the values x; it begins with a sample's first value.

    Source: Raju et al., 2021, section 3.
    """
    return np.where(np.isnan(old), values, SMOOTHING * old + (1 - SMOOTHING) * values)


def smoothed_with_latest(old: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rows (B, 3): the running mean of the values before, the batch's values, and the mean with them."""
    return np.stack([old[:, 2], values, smoothed(old[:, 2], values)], axis=1)


def again_with_latest(old: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The same rows, the batch's values in place of those that the epoch had before."""
    return np.stack([old[:, 0], values, smoothed(old[:, 0], values)], axis=1)


def smoothed_batch_mean(old: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """The running mean 0.9 s + 0.1 m of the batches' mean losses m; s is 0 at first.

    Source: BLS, CVPR 2026, by its authors' code.
    """
    mean = float(losses.mean(dtype=np.float64))
    before: np.ndarray = np.nan_to_num(old)
    return BATCH_SMOOTHING * before + (1 - BATCH_SMOOTHING) * mean


def is_below_batch_mean(old: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Whether each loss lies below the batch's mean.

    Source: RePB, ICLR 2026.
    """
    return losses < float(losses.mean(dtype=np.float64))


def last_few(old: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """The rows (B, width) without their first and oldest number, and with the new losses at the end."""
    return np.concatenate([old[:, 1:], losses[:, None]], axis=1)


def last_again(old: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """The same rows, the new losses in place of the latest."""
    return np.concatenate([old[:, :-1], losses[:, None]], axis=1)


def one_more(old: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """The old numbers plus 1."""
    return old + 1


def unchanged(old: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The old numbers."""
    return old


NAN = float("nan")

COLUMNS = {
    # The loss of the last time, NaN for a sample that has none: the score of the paper.
    "last_loss": Column(np.float32, NAN, latest),
    # A running mean of the losses.
    "smoothed_loss": Column(np.float32, NAN, smoothed, again=unchanged),
    # The losses of the last five epochs that it was trained in, the latest last.
    "recent_losses": Column(np.float32, NAN, last_few, width=5, again=last_again),
    # A running mean of the mean losses of the batches that trained the sample.
    "batch_loss": Column(np.float32, NAN, smoothed_batch_mean, training=True, again=unchanged),
    # 1 if the last loss lay below the mean of its batch, else 0.
    "below_batch": Column(np.uint8, 0, is_below_batch_mean, training=True),
    # In how many epochs the sample was trained, with a score or without.
    "visits": Column(np.int32, 0, one_more, signal=CLOCK, training=True, again=unchanged),
    # The norm of the gradient the last time, and its running mean.
    "gradient_norm": Column(np.float32, NAN, latest, signal=NORMS),
    "smoothed_norm": Column(np.float32, NAN, smoothed, signal=NORMS, again=unchanged),
    # The norms of the last two epochs that it was trained in, the latest last.
    "recent_norms": Column(np.float32, NAN, last_few, signal=NORMS, width=2, again=last_again),
    # The running mean of the norms before the last epoch, the norm of that epoch, and the mean with it.
    "smoothed_norms": Column(
        np.float32, NAN, smoothed_with_latest, signal=NORMS, width=3, again=again_with_latest
    ),
    # Which of its rank's batches trained it the last time, from 1.
    "trained_at": Column(np.int32, 0, latest, signal=CLOCK, training=True),
    # The probability that the model gave to the sample's own class the last time, in [0, 1].
    "confidence": Column(np.float32, NAN, latest, signal="confidences"),
    # How many visits the sample is owed, NaN before the first draw; see infobatch.policies.Spaced.
    "credit": Column(np.float32, NAN, unchanged, signal=DRAW),
    # The weight that the last epoch gave the sample, 0 if it left the sample out.
    "weight": Column(np.float32, 0, unchanged, signal=DRAW),
    # What a run that is recorded writes at an epoch's end, NaN for a sample that it did not train.
    "epoch_loss": Column(np.float32, NAN, latest, training=True, of_epoch=True),
    "epoch_margin": Column(np.float32, NAN, latest, signal="margins", training=True, of_epoch=True),
    "epoch_confidence": Column(
        np.float32, NAN, latest, signal="confidences", training=True, of_epoch=True
    ),
}
"""All columns that a score table can keep, by name. Every run keeps last_loss and visits, and the
columns that its policy reads."""
