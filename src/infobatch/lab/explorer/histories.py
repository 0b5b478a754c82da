"""The losses of each sample, epoch by epoch, as a page holds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infobatch.dynamics import Dynamics

MOST_LOSSES = 8_000_000
"""How many losses a page holds, of two bytes each; of a longer run it has only every k-th epoch."""


@dataclass(frozen=True)
class Histories:
    """Losses of some samples.

    Args:
        epochs: The epochs that are shown, E of them.
        losses: Float32 (n, E), as they were recorded; NaN where an epoch left a sample out. Infinity
            where it trained a sample without a finite loss, and -infinity where the dataset did not have
            the sample yet.
        every: How many recorded epochs there are for each of these.
    """

    epochs: list[int]
    losses: np.ndarray
    every: int = 1


def read_histories(dynamics: Dynamics, indices: np.ndarray) -> Histories:
    """Read the losses of some samples.

    Args:
        dynamics: The recorded epochs.
        indices: The samples, int64 (n,), in rising order.

    Returns:
        Their losses in all recorded epochs or, of a long run, in every k-th.
    """
    every = max(1, -(-len(indices) * dynamics.num_epochs // MOST_LOSSES))
    epochs = dynamics.epochs[::every]
    losses = np.full((len(indices), len(epochs)), np.nan, np.float32)
    for column, epoch in enumerate(epochs):
        record = dynamics[epoch]
        _, places, rows = np.intersect1d(indices, record.index, assume_unique=True, return_indices=True)
        known = record.loss[rows]
        losses[places, column] = np.where(np.isnan(known), np.inf, known)
        losses[indices >= record.num_samples, column] = -np.inf
    return Histories(epochs, losses, every)
