"""Scaling of a rank's mean, so that the ranks' means average to the mean over the global batch.

In one step all ranks together train one global batch. The mean of the ranks' means is its mean only if
all ranks have equally many real samples (or, for the mean over weights, equal sums of weights).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from infobatch.batching import Batching
from infobatch.layouts.shuffled_epoch import ShuffledEpoch
from infobatch.losses import Normalizer
from infobatch.scores.columns import FloatArray, IndexArray


class MeanScaling(ABC):
    """The factors of a rank's weights. All samples of one global batch have the same one."""

    @abstractmethod
    def scale_of(self, index: int) -> float:
        """The factor of the batch that a sample of this rank is trained in; any number for a repeat."""


@dataclass(frozen=True)
class SamplesScaling(MeanScaling):
    """For means over samples: a batch that the ranks cannot share equally is scaled.

    Args:
        scales: For each sample of this rank in such a batch, the slots of the batch (repeats included)
            over its real samples; samples of other batches are not in it.
    """

    scales: Mapping[int, float]

    def scale_of(self, index: int) -> float:
        return self.scales.get(index, 1.0)


@dataclass(frozen=True)
class WeightsScaling(MeanScaling):
    """For means over weights: every batch is scaled.

    Args:
        scales: For each sample, the slots of its batch over the sum of weights in it, float32 (N,).
    """

    scales: FloatArray

    def scale_of(self, index: int) -> float:
        return float(self.scales[index])  # a repeat has weight 0, whatever the scale


class UnknownScaling(MeanScaling):
    """For means over weights before the batch size is known."""

    def scale_of(self, index: int) -> float:
        raise RuntimeError(
            "normalizer='weights' divides by the sum of weights on all ranks, which is not known "
            "before the batch size is; make the loader first, or use normalizer='batch'"
        )


def scaling_of_shuffled(
    epoch: ShuffledEpoch, batching: Batching | None, normalizer: Normalizer
) -> MeanScaling | None:
    """The scaling of an epoch whose order every rank knows; None where nothing needs it."""
    if normalizer == "weights" and epoch.replicas.num_replicas > 1:
        if batching is None:
            return UnknownScaling()
        return WeightsScaling(_scales_by_weights(epoch, _batch_starts(epoch, batching)))
    num_replicas, num_draws = epoch.replicas.num_replicas, len(epoch.share)
    if batching is None or num_draws == 0:
        return None
    if batching.drop_last and not epoch.shrinks_batches:
        return None
    start = int(_batch_starts(epoch, batching)[-1])  # only the last batch may hold repeats
    num_real = len(epoch.resume_order) - start * num_replicas
    num_slots = (num_draws - start) * num_replicas
    if num_slots == num_real:
        return None
    return SamplesScaling(dict.fromkeys(epoch.share[start:].tolist(), num_slots / num_real))


def _batch_starts(epoch: ShuffledEpoch, batching: Batching) -> IndexArray:
    """Where the batches of this rank that are left begin in its draws, int64."""
    if epoch.shrinks_batches:
        return np.concatenate([[0], epoch.batch_ends()[:-1]])
    return np.arange(0, len(epoch.share), int(batching.batch_size))


def _scales_by_weights(epoch: ShuffledEpoch, batch_starts: IndexArray) -> FloatArray:
    scales = np.ones(len(epoch.weights), np.float32)
    order, num_replicas = epoch.resume_order.numpy(), epoch.replicas.num_replicas
    if len(order):
        starts = batch_starts * num_replicas
        sizes = np.diff(starts, append=len(order))
        slots = np.diff(batch_starts, append=len(epoch.share)) * num_replicas
        sums = np.add.reduceat(epoch.weights[order].astype(np.float64), starts)
        scales[order] = np.repeat(slots / sums, sizes)
    return scales
