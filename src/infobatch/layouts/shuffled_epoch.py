"""An epoch in the library's own order, which every rank knows whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from infobatch.batching import BatchEnds
from infobatch.chunks import chunks
from infobatch.distributed import Replicas
from infobatch.epoch import filled
from infobatch.layouts.replicated_epoch import ReplicatedEpoch
from infobatch.scores.columns import IndexArray
from infobatch.seeding import epoch_generator, permutation
from infobatch.selection import Selection


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


class ShuffledEpoch(ReplicatedEpoch):
    """One epoch under way in the library's own order.

    That order takes at most 4 bytes a sample.

    Args:
        number: Number of the epoch, from 0.
        selection: The selected samples and their weights.
        seed: Seed of the run.
        num_trained: Length of the order; less than the selection where the run ends within the epoch or
            the loader drops a last short batch.
        replicas: The place of this rank among those that train one model.
        recorded: Samples whose losses came in before, bool (N,): trained, or left out and observed.
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
        batch_ends: BatchEnds | None = None,
        num_rounds: Callable[[int], int] | None = None,
    ) -> None:
        super().__init__(number, selection, replicas, recorded, batch_ends)
        self.order = self.resume_order = epoch_order(seed, number, selection)[:num_trained]
        if self._num_recorded:
            self.resume_order = self.order[~_at(torch.from_numpy(self.recorded), self.order)]
        self._num_rounds = num_rounds or self.replicas.share_of
        self.share = self._share_of(self.resume_order)
        self._num_trained, self._num_left = len(self.order), len(self.resume_order)
        self._num_resumed = self._num_recorded
        self.resumed_at_end = self._num_left == 0

    # -- How far it is -----------------------------------------------------------------------------

    @property
    def num_trained(self) -> int:
        return self._num_trained

    @property
    def num_left(self) -> int:
        return self._num_left

    @property
    def length(self) -> int:
        return self._num_trained

    @property
    def done(self) -> float:
        seen = self._num_resumed + self._num_seen * self.replicas.num_replicas
        return min(1.0, seen / self._num_trained) if self._num_trained else 1.0

    @property
    def is_whole(self) -> bool:
        return self._num_seen >= len(self.share) and not bool((self._remaining >= 0).any())

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

    # -- Recording ---------------------------------------------------------------------------------

    def _record_new(self, indices: IndexArray) -> int:
        if self._num_seen == 0 and self.replicas.num_replicas > 1:
            self._check_share(indices)
        return super()._record_new(indices)

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

    @property
    def _num_given(self) -> int:
        return len(self.share)

    def _num_skipped(self) -> int:
        recorded = self.recorded[self.share[self.share >= 0].numpy()]
        length = int(np.max(np.flatnonzero(recorded), initial=-1)) + 1
        return length - int(np.count_nonzero(recorded))

    def release(self) -> None:
        super().release()
        self.order = self.resume_order = self.share = self.order[:0].clone()
