"""What is kept for every sample, and how a batch's losses, or other signals, change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

IndexArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float32]]

NO_SCORE = -3.4028234663852886e38  # the lowest float32, which no loss takes
"""Stands for the loss of a sample that has none (no valid pixel, no supervised token)."""


LOSSES = "losses"
DRAW = "draw"
"""Of columns that no batch changes, but the draw of an epoch."""
SIGNALS = {
    "gradient_norms": "classification_gradient_norms(logits, targets)",
    "confidences": "classification_confidences(logits, targets)",
}
"""What else a batch can tell of each of its samples, and what gives it for classification."""


@dataclass(frozen=True)
class Column:
    """What is kept for every sample, and how a batch's losses, or other signals, change it.

    ``width``: how many numbers that is; more than one are a row, and the column of shape (N, width).
    ``training``: whether training on a sample changes it, and a look at it does not.
    """

    dtype: type[np.generic]
    initial: float
    update: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (old values, the batch's) -> new values
    signal: str = LOSSES
    width: int = 1
    training: bool = False

    def make(self, num_samples: int) -> np.ndarray:
        """The column of a run that begins."""
        shape = num_samples if self.width == 1 else (num_samples, self.width)
        return np.full(shape, self.initial, self.dtype)


SMOOTHING = 0.8
BATCH_SMOOTHING = 0.9


def smoothed(old: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """S <- 0.8 s + 0.2 l, from a sample's first loss on (Raju et al., 2021, section 3)."""
    return np.where(np.isnan(old), losses, SMOOTHING * old + (1 - SMOOTHING) * losses)


def of_batch(old: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """S <- 0.9 s + 0.1 (the batch's mean loss), from 0 on (BLS, CVPR 2026, by its authors' code)."""
    mean = float(losses.mean(dtype=np.float64))
    return BATCH_SMOOTHING * old + (1 - BATCH_SMOOTHING) * mean


def below_batch(old: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Whether a loss lies below its batch's mean (RePB, ICLR 2026)."""
    return losses < float(losses.mean(dtype=np.float64))


def appended(old: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """The losses (B,) at the end of rows (B, width), whose first number goes."""
    return np.concatenate([old[:, 1:], losses[:, None]], axis=1)


COLUMNS = {
    "last_loss": Column(np.float32, float("nan"), lambda old, losses: losses),
    "smoothed_loss": Column(np.float32, float("nan"), smoothed),
    "recent_losses": Column(np.float32, float("nan"), appended, width=5),  # the latest last
    "batch_loss": Column(np.float32, 0, of_batch, training=True),
    "below_batch": Column(np.uint8, 0, below_batch, training=True),
    "visits": Column(np.int32, 0, lambda old, losses: old + 1, training=True),
    "gradient_norm": Column(np.float32, float("nan"), lambda old, norms: norms, "gradient_norms"),
    "smoothed_norm": Column(np.float32, float("nan"), smoothed, "gradient_norms"),
    "credit": Column(np.float32, float("nan"), lambda old, _: old, DRAW),
    "confidence": Column(np.float32, float("nan"), lambda old, shares: shares, "confidences"),
}
