"""The means that ranks average: what each has to be scaled by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from infobatch.batching import Batching
from infobatch.epoch import Epoch
from infobatch.losses import Normalizer
from infobatch.scores.columns import FloatArray


@dataclass(frozen=True)
class Rounds:
    """How to scale a rank's weights, for the ranks' means to average to that of the global batch.

    A *round* is what all ranks train in one step. With the mean over samples only a last round that the
    ranks cannot share equally needs it: ``by_member``, for each of this rank's samples in it, the
    slots of the round over its real samples. With the mean over weights each round does: ``by_sample``
    float32 (N,), the slots of a sample's round over the sum of the weights in it.
    """

    by_member: Mapping[int, float] = field(default_factory=dict)
    by_sample: FloatArray | None = None

    @classmethod
    def of(cls, epoch: Epoch, batching: Batching | None, normalizer: Normalizer) -> Rounds | None:
        """None where nothing needs scaling, as always on a single process."""
        order, replicas = epoch.resume_order, epoch.replicas
        over_weights = normalizer == "weights" and replicas.num_replicas > 1
        if batching is None:
            return cls() if over_weights else None
        if over_weights:
            return cls(by_sample=_scales_over_weights(epoch, int(batching.round_size)))
        if batching.drop_last or batching.own_order:
            return None
        num_real = len(order) % int(batching.round_size)
        num_local = -(-num_real // replicas.num_replicas)
        num_slots = num_local * replicas.num_replicas
        if num_slots == num_real:
            return None
        return cls(dict.fromkeys(epoch.share[-num_local:].tolist(), num_slots / num_real))

    def scale_of(self, index: int) -> float:
        """The scale of the round that a sample, or a repeat, of this rank is trained in."""
        if self.by_sample is not None:
            return float(self.by_sample[index])  # a repeat has weight 0, whatever the scale
        if not self.by_member:
            raise RuntimeError(
                "normalizer='weights' divides by the sum of weights on all replicas, which is not known "
                "before the batch size is; make the loader first, or use normalizer='batch'"
            )
        return self.by_member.get(index, 1.0)


def _scales_over_weights(epoch: Epoch, round_size: int) -> FloatArray:
    scales = np.ones(len(epoch.weights), np.float32)
    order, num_replicas = epoch.resume_order.numpy(), epoch.replicas.num_replicas
    if len(order):
        starts = np.arange(0, len(order), round_size)
        sizes = np.diff(starts, append=len(order))
        slots = -(-sizes // num_replicas) * num_replicas
        sums = np.add.reduceat(epoch.weights[order].astype(np.float64), starts)
        scales[order] = np.repeat(slots / sums, sizes)
    return scales
