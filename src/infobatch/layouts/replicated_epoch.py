"""An epoch of which every rank knows the whole selection, and how much of it has been recorded."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.batching import BatchEnds
from infobatch.distributed import Replicas
from infobatch.epoch import Epoch, check_left_out, tick_off, unselected_error
from infobatch.inputs import all_below
from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.selection import Selection
from infobatch.user_warnings import warn_user


class ReplicatedEpoch(Epoch):
    """One epoch under way, where every rank knows all of its samples.

    Its two kinds differ in who orders it: :class:`ShuffledEpoch` is in the library's own order,
    :class:`UserOrderedEpoch` in that of a sampler of the user's. It takes 7 bytes a sample: weights (4),
    recorded (1) and marks (2).

    Args:
        number: Number of the epoch, from 0.
        selection: The selected samples and their weights.
        replicas: The place of this rank among those that train one model.
        recorded: Samples whose losses came in before, bool (N,): trained, or left out and observed.
        batch_ends: Where the batches end in the draws of each rank, where they shrink.
    """

    def __init__(
        self,
        number: int,
        selection: Selection,
        replicas: Replicas | None = None,
        recorded: Tensor | None = None,
        batch_ends: BatchEnds | None = None,
    ) -> None:
        super().__init__(number, replicas or Replicas(), batch_ends)
        self._selection = selection
        self.weights: FloatArray = selection.weights.numpy()
        num_samples = len(self.weights)
        self.recorded = np.zeros(num_samples, bool) if recorded is None else recorded.numpy().copy()
        self._marks = np.empty(num_samples, np.uint16)
        self._num_recorded = self._count_recorded()

    # -- What is selected --------------------------------------------------------------------------

    @property
    def selection(self) -> Selection:
        return self._selection

    @property
    def indices(self) -> Tensor:
        return self._selection.indices

    @property
    def num_selected(self) -> int:
        return self._selection.num_selected

    @cached_property
    def mean_weight(self) -> float:
        return float(self.weights.sum(dtype=np.float64)) / self._selection.num_selected

    @property
    def recorded_weights(self) -> Tensor:
        """Weights of the samples that were recorded, 0 for all others, float32 (N,)."""
        weights = self._selection.weights
        if self._num_recorded == self._selection.num_selected:
            return weights
        return weights * torch.from_numpy(self.recorded)

    @property
    def fingerprint(self) -> int:
        return zlib.crc32(self.weights.data)

    def weights_of(self, indices: IndexArray) -> FloatArray:
        if self.replicas.num_replicas > 1 and np.minimum.reduce(indices, initial=0) < 0:
            real = indices >= 0
            weights = np.zeros(len(indices), dtype=np.float32)
            weights[real] = self.weights_of(indices[real])
            return weights
        if all_below(indices, len(self.weights)):
            weights = self.weights[indices]
            if np.count_nonzero(weights) == len(weights):
                return weights
        raise unselected_error(self._first_unselected(indices), self.number, len(self.weights))

    def _first_unselected(self, indices: IndexArray) -> int:
        unselected = (indices < 0) | (indices >= len(self.weights))
        unselected[~unselected] = self.weights[indices[~unselected]] == 0
        return int(indices[unselected][0])

    # -- Recording ---------------------------------------------------------------------------------

    @property
    def num_recorded(self) -> int:
        return self._num_recorded

    def is_recorded(self, samples: np.ndarray) -> np.ndarray:
        if self.replicas.num_replicas == 1:  # without repeats
            recorded: np.ndarray = self.recorded[samples]
            return recorded
        real = samples >= 0
        real[real] = self.recorded[samples[real]]
        return real

    def _record_new(self, indices: IndexArray) -> int:
        num_new = tick_off(self.recorded, indices, self._marks)
        self._num_recorded += num_new
        return num_new

    def _count_recorded(self) -> int:
        return int(np.count_nonzero(self.recorded & (self.weights > 0)))

    @property
    def left_out(self) -> IndexArray:
        left_out = np.flatnonzero(self.weights == 0)[self.replicas.rank :: self.replicas.num_replicas]
        unobserved: IndexArray = left_out[~self.recorded[left_out]]
        return unobserved

    @property
    def num_unobserved(self) -> int:
        return int(np.count_nonzero((self.weights == 0) & ~self.recorded))

    def observe(self, indices: IndexArray) -> None:
        outside = (indices < 0) | (indices >= len(self.weights))
        if outside.any():
            raise unselected_error(int(indices[outside][0]), self.number, len(self.weights))
        check_left_out(indices, self.weights[indices] > 0, self.number)
        self.recorded[indices] = True

    def merge(self, recorded: np.ndarray) -> None:
        """Take over what all ranks together have recorded, bool (N,)."""
        self.recorded |= recorded
        self._num_recorded = self._count_recorded()

    def check_recorded(self) -> None:
        super().check_recorded()
        if self.replicas.num_replicas == 1:
            return
        num_skipped, num_given = self._num_skipped(), self._num_given
        # Two ranks that share out a share again skip every other batch; more ranks skip more.
        if num_skipped > 0.4 * num_given:
            warn_user(
                f"epoch {self.number} skipped {num_skipped:,} of the {num_given:,} samples of "
                "this rank and recorded later ones, as if the loader were shared out among the ranks a "
                "second time. Each has its share already: do not pass the loader to "
                "accelerator.prepare(), use infobatch.integrations.accelerate.pruned_loader"
            )

    @property
    @abstractmethod
    def _num_given(self) -> int:
        """Draws that this rank's loader was to give."""

    @abstractmethod
    def _num_skipped(self) -> int:
        """Those of them that were not recorded, though a later one was."""

    def release(self) -> None:
        self._marks = np.empty(0, np.uint16)

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.number,
            "weights": self._selection.weights.clone(),
            "recorded": torch.from_numpy(self.recorded.copy()),
            "draws": None,
        }
