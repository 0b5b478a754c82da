"""An epoch of which every rank knows the whole selection."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.batching import BatchEnds
from infobatch.chunks import chunks
from infobatch.distributed import Replicas
from infobatch.epoch import Epoch, check_left_out, filled, unselected_error
from infobatch.inputs import all_below, check_off
from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.seeding import epoch_generator, permutation
from infobatch.selection import Selection
from infobatch.user_order import UserDraws
from infobatch.user_warnings import warn_user


def epoch_order(seed: int, epoch: int, selection: Selection) -> Tensor:
    """The selected samples in the order they are trained, int32 (num_selected,), or int64 if N needs it.

    One permutation of all N samples, filtered: with nothing left out it is the order of
    ``RandomSampler(dataset, generator=epoch_generator(seed, epoch))``.
    """
    order = permutation(len(selection.weights), epoch_generator(seed, epoch)).numpy()
    if selection.num_selected == len(order):
        return torch.from_numpy(order)
    weights, length = selection.weights.numpy(), 0
    for part in chunks(len(order)):
        selected = order[part][weights[order[part]] > 0]
        order[length : length + len(selected)] = selected  # in place: a second order is 4 bytes a sample
        length += len(selected)
    return torch.from_numpy(order[:length])


def _at(values: Tensor, order: Tensor) -> Tensor:
    """``values[order]``, without a copy of the order as int64."""
    return values.index_select(0, order)


class ReplicatedEpoch(Epoch):
    """One epoch under way, where every rank knows all of its samples.

    It takes 11 bytes a sample: weights (4), order (at most 4), recorded (1) and marks (2).

    Args:
        number: Number of the epoch, from 0.
        selection: The selected samples and their weights.
        seed: Seed of the run.
        num_trained: Length of the order; less than the selection where the run ends within the epoch or
            the loader drops a last short batch.
        replicas: The place of this rank among those that train one model.
        recorded: Samples whose losses came in before, bool (N,): trained, or left out and observed.
        user_draws: The draws of the user's own sampler, where that orders the epoch; order and share
            then only say what is selected.
        batch_ends: Where the batches end in the draws of each rank, where they shrink.
        num_rounds: How many draws each rank has of a number of samples; by default as few as it can.

    Attributes:
        order: All samples that the ranks train, in order.
        resume_order: What of the order was still to be trained when it began or was resumed.
        share: This rank's part of ``resume_order``.
    """

    def __init__(
        self,
        number: int,
        selection: Selection,
        seed: int,
        num_trained: int,
        replicas: Replicas | None = None,
        recorded: Tensor | None = None,
        user_draws: UserDraws | None = None,
        batch_ends: BatchEnds | None = None,
        num_rounds: Callable[[int], int] | None = None,
    ) -> None:
        super().__init__(number, replicas or Replicas(), user_draws, batch_ends)
        self._selection = selection
        self.order = epoch_order(seed, number, selection)[:num_trained]
        self.weights: FloatArray = selection.weights.numpy()
        num_samples = len(self.weights)
        self.recorded = np.zeros(num_samples, bool) if recorded is None else recorded.numpy().copy()
        self._marks = np.empty(num_samples, np.uint16)
        self._num_recorded = self._count_recorded()
        self.resume_order = self.order
        if self._num_recorded:
            self.resume_order = self.order[~_at(torch.from_numpy(self.recorded), self.order)]
        self._num_rounds = num_rounds or self.replicas.share_of
        self.share = self._share_of(self.resume_order)
        self._num_trained, self._num_left = len(self.order), len(self.resume_order)
        self._num_resumed = self._num_recorded
        self._resumed_at_end = user_draws.finished if user_draws else len(self.resume_order) == 0

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

    @property
    def mean_weight(self) -> float:
        of_draws = None if self.user_draws is None else self.user_draws.mean_weight
        return self._mean_weight_of_selected if of_draws is None else of_draws

    @cached_property
    def _mean_weight_of_selected(self) -> float:
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

    # -- How far it is -----------------------------------------------------------------------------

    @property
    def num_trained(self) -> int:
        return self._num_trained

    @property
    def num_left(self) -> int:
        return self._num_left

    @property
    def length(self) -> int:
        draws = self.user_draws
        if draws is None:
            return self._num_trained
        length = round(draws.expected) if draws.length is None else draws.length
        return length * self.replicas.num_replicas

    @property
    def done(self) -> float:
        if self.user_draws is not None:
            return self.user_draws.done
        seen = self._num_resumed + self._num_seen * self.replicas.num_replicas
        return min(1.0, seen / self._num_trained) if self._num_trained else 1.0

    @property
    def finished(self) -> bool:
        if self.user_draws is not None:
            return self.user_draws.finished
        return self._num_seen >= len(self.share) and not bool((self._remaining >= 0).any())

    @property
    def num_recorded(self) -> int:
        return self._num_recorded

    @property
    def resumed_at_end(self) -> bool:
        return self._resumed_at_end

    # -- Its order on this rank --------------------------------------------------------------------

    def num_draws(self, resumes: bool = True) -> int:
        return len(self.share_of_rank(resumes))

    def draws(self, resumes: bool = True) -> Iterator[int]:
        order = self._remaining.numpy() if resumes else self.share_of_rank(False)
        # A list of them all would be ten times as large.
        return chain.from_iterable(order[part].tolist() for part in chunks(len(order)))

    @property
    def _remaining(self) -> Tensor:
        """What of this rank's share has not been recorded, and its repeats."""
        if self._num_seen == 0:
            return self.share
        return self.share[torch.from_numpy(~self.is_recorded(self.share.numpy()))]

    def share_of_rank(self, resumes: bool = True) -> np.ndarray:
        share: np.ndarray = (self.share if resumes else self._share_of(self.order)).numpy()
        return share

    def _share_of(self, order: Tensor) -> Tensor:
        """Every R-th sample of what is left, and repeats where that does not fill the rounds."""
        rank, num_replicas = self.replicas.rank, self.replicas.num_replicas
        if num_replicas == 1:
            return order
        length = self._num_rounds(len(order)) * num_replicas
        return torch.from_numpy(filled(order.numpy(), self.order.numpy(), length))[rank::num_replicas]

    def is_recorded(self, samples: np.ndarray) -> np.ndarray:
        if self.replicas.num_replicas == 1:  # without repeats
            recorded: np.ndarray = self.recorded[samples]
            return recorded
        real = samples >= 0
        real[real] = self.recorded[samples[real]]
        return real

    # -- Recording ---------------------------------------------------------------------------------

    def _record_new(self, indices: IndexArray) -> int:
        if self._num_seen == 0 and self.user_draws is None and self.replicas.num_replicas > 1:
            self._check_share(indices)
        num_new = check_off(self.recorded, indices, self._marks)
        self._num_recorded += num_new
        return num_new if self.user_draws is None else self.user_draws.record(indices)

    def _check_share(self, indices: IndexArray) -> None:
        """Refuse a batch with other ranks' samples, unless it holds all of this one's too."""
        share = self.share[self.share >= 0].numpy()
        foreign = indices[~np.isin(indices, share)]
        if len(foreign) and not np.isin(share, indices).all():
            raise ValueError(
                f"sample {foreign[0]} is not of this rank's share of epoch {self.number}: the loader "
                "has another sampler than the pruner's, and would leave nothing out. Give a DataLoader "
                "of your own batch_sampler=pruner.batch_sampler(batch_size), or with shrink='steps' "
                "sampler=pruner.sampler(batch_size), and no DistributedSampler; where Ray's "
                "prepare_data_loader replaced it use infobatch.integrations.ray.pruned_loader"
            )

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
        if self.user_draws is not None:
            self.user_draws.merge(recorded & (self.weights > 0))

    def check_recorded(self) -> None:
        super().check_recorded()
        if self.replicas.num_replicas == 1:
            return
        num_skipped = self._num_skipped()
        num_given = len(self.share) if self.user_draws is None else self.user_draws.length or 0
        # Two ranks that share out a share again skip every other batch; more ranks skip more.
        if num_skipped > 0.4 * num_given:
            warn_user(
                f"epoch {self.number} skipped {num_skipped:,} of the {num_given:,} samples of "
                "this rank and recorded later ones, as if the loader were shared out among the ranks a "
                "second time. Each has its share already: do not pass the loader to "
                "accelerator.prepare(), use infobatch.integrations.accelerate.pruned_loader"
            )

    def _num_skipped(self) -> int:
        """Samples of this rank's share that were not recorded, though a later one was."""
        draws, size = self.user_draws, 0 if self._latest is None else len(self._latest)
        if draws is not None:  # whose order is not known: whether it is a share of the share
            length, num_replicas = draws.length or 0, self.replicas.num_replicas
            is_share = abs(draws.num_recorded - length / num_replicas) <= size
            return length - draws.num_recorded if is_share else 0
        recorded = self.recorded[self.share[self.share >= 0].numpy()]
        length = int(np.max(np.flatnonzero(recorded), initial=-1)) + 1
        return length - int(np.count_nonzero(recorded))

    def release(self) -> None:
        self.order = self.resume_order = self.share = self.order[:0].clone()
        self._marks = np.empty(0, np.uint16)

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.number,
            "weights": self._selection.weights.clone(),
            "recorded": torch.from_numpy(self.recorded.copy()),
            "draws": None if self.user_draws is None else self.user_draws.state_dict(),
        }
