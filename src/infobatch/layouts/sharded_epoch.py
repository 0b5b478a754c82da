"""An epoch of which each rank knows only its own shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from infobatch.batching import BatchEnds
from infobatch.chunks import chunks
from infobatch.epoch import Epoch, check_left_out, filled, tick_off, unselected_error
from infobatch.layouts.shards import Shards
from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.seeding import epoch_generator
from infobatch.selection import Selection


@dataclass(frozen=True)
class ShardedSelection:
    """What is drawn of this rank's n samples, which lie in C shards.

    Args:
        codes: 0 for a sample that is left out, else its stratum + 1, uint8 (n,).
        weights: The weight of each code in each shard, float32 (C, S + 1).
        num_selected: Number of samples selected on all ranks.
    """

    codes: np.ndarray
    weights: FloatArray
    num_selected: int

    @classmethod
    def full(cls, shards: Shards) -> ShardedSelection:
        """All samples of this rank, with weight 1."""
        weights = np.tile(np.array([0, 1], np.float32), (len(shards.ids), 1))
        return cls(np.ones(shards.num_local, np.uint8), weights, shards.num_samples)


def shard_order(
    shards: Shards, codes: np.ndarray, seed: int, epoch: int, num_trained: int
) -> np.ndarray:
    """The samples of this rank in the order they are trained, int32 (or int64, if N needs it).

    Each shard has a permutation of its own, filtered by the selection and cut to the shard's part of
    ``num_trained``. The order takes the first sample of each shard, then the second of each, and so on:
    all shards end together, and other ranks can take them over at any time. The order of the shards is
    drawn anew each epoch.
    """
    dtype = np.int32 if shards.num_samples < 2**31 else np.int64
    sizes = shards.shared(num_trained)[shards.ids]
    order = np.empty(int(sizes.sum()), dtype)
    num_columns, num_rows = len(sizes), int(sizes.min())
    rows = order[: num_rows * num_columns].reshape(num_rows, num_columns)
    stream_of_rank = shards.num_shards + shards.replicas.rank
    generator = epoch_generator(seed, epoch, rank=stream_of_rank)
    rest = []
    for place, column in enumerate(torch.randperm(num_columns, generator=generator).tolist()):
        part = shards.part(column)
        number = int(shards.ids[column])
        generator = epoch_generator(seed, epoch, rank=number)
        permutation = torch.randperm(part.stop - part.start, generator=generator, dtype=torch.int32)
        within = permutation.numpy()
        within = within[codes[part][within] > 0][: sizes[column]]
        samples = within.astype(dtype) * shards.num_shards + number
        rows[:, place] = samples[:num_rows]
        rest += [(row, place, sample) for row, sample in enumerate(samples[num_rows:].tolist())]
    order[num_rows * num_columns :] = [sample for *_, sample in sorted(rest)]
    return order


class ShardedEpoch(Epoch):
    """One epoch under way, on one of R ranks that each know the samples of their own shards.

    Ranks with less to train than another train repeats until all have equally many draws. It takes 8
    bytes for each sample of this rank: code (1), recorded (1), order (at most 4) and marks (2).

    Args:
        number: Number of the epoch, from 0.
        selection: What is drawn of this rank's samples.
        shards: The shards of the run, and those of this rank.
        seed: Seed of the run.
        num_trained: Samples trained on all ranks.
        recorded: Samples of this rank whose losses came in before, bool (n,): trained, or left out and
            observed.
        left: Samples that each shard had still to train when the epoch began or was resumed, int64 (V,);
            None for all of them.
        num_rounds: How many draws each rank has, given the most samples of a rank; by default as many.
        fingerprint: A number that ranks which drew alike have in common.
        batch_ends: Where batches end in the draws of a rank, where batches shrink; else None.
    """

    def __init__(
        self,
        number: int,
        selection: ShardedSelection,
        shards: Shards,
        seed: int,
        num_trained: int,
        recorded: np.ndarray | None = None,
        left: IndexArray | None = None,
        num_rounds: Callable[[int], int] = int,
        fingerprint: int = 0,
        batch_ends: BatchEnds | None = None,
    ) -> None:
        super().__init__(number, shards.replicas, batch_ends=batch_ends)
        self.drawn = selection
        self.shards = shards
        self.recorded = np.zeros(shards.num_local, bool) if recorded is None else recorded
        self._marks = np.empty(shards.num_local, np.uint16)
        self.left = shards.shared(num_trained) if left is None else left
        self._num_recorded = int(np.count_nonzero(self.recorded & (selection.codes > 0)))
        self._num_recorded_by_any = self._num_recorded
        self._num_unobserved_by_any = 0
        self._seed = seed
        self._num_trained = num_trained
        self._fingerprint = fingerprint
        self._num_rounds = num_rounds
        order = shard_order(shards, selection.codes, seed, number, num_trained)
        source = self._source_of(order)
        self._num_own = len(source)
        if self._num_recorded:
            order = order[~self.recorded[shards.locate(order)]]
        self._lengths = shards.by_rank(self.left)
        assert len(order) == self._lengths[self.replicas.rank]
        self._order = filled(order, source, num_rounds(int(self._lengths.max())))
        self.resumed_at_end = self.num_left == 0

    # -- What is selected --------------------------------------------------------------------------

    @property
    def selection(self) -> Selection:
        raise RuntimeError(
            "with layout=Sharded() no rank has the whole selection; `pruner.current.indices` are the "
            "samples of this rank, and `pruner.weights(indices)` their weights"
        )

    @property
    def indices(self) -> torch.Tensor:
        return torch.from_numpy(self.shards.held[self.drawn.codes > 0])

    @property
    def num_selected(self) -> int:
        return self.drawn.num_selected

    @cached_property
    def mean_weight(self) -> float:
        return self.shards.num_samples / self.drawn.num_selected

    @property
    def fingerprint(self) -> int:
        return self._fingerprint

    def weights_of(self, indices: IndexArray) -> FloatArray:
        samples = np.where(indices < 0, ~indices, indices)
        places = self.shards.locate(samples)
        if (places < 0).any():
            raise self._unselected_error(int(samples[places < 0][0]))
        weights: FloatArray = self.drawn.weights[self.shards.columns(samples), self.drawn.codes[places]]
        if (weights == 0).any():
            raise self._unselected_error(int(samples[weights == 0][0]))
        weights[indices < 0] = 0
        return weights

    def _unselected_error(self, sample: int) -> ValueError:
        owner = sample % self.shards.num_shards % self.replicas.num_replicas
        if sample < self.shards.num_samples and owner != self.replicas.rank:
            return ValueError(
                f"sample {sample} belongs to rank {owner}, this is rank {self.replicas.rank}; with "
                "layout=Sharded() each rank trains on its own shards, so pass the indices that came "
                "with this rank's batch"
            )
        return unselected_error(sample, self.number, self.shards.num_samples)

    # -- How far it is -----------------------------------------------------------------------------

    @property
    def num_trained(self) -> int:
        return self._num_trained

    @property
    def num_left(self) -> int:
        return int(self.left.sum())

    @property
    def length(self) -> int:
        return self._num_trained

    @property
    def done(self) -> float:
        if self._num_trained == 0:
            return 1.0
        num_seen = self._num_trained - self.num_left + np.minimum(self._lengths, self._num_seen).sum()
        return float(num_seen / self._num_trained)

    @property
    def is_whole(self) -> bool:
        # Repeats come last, so that a rank that has seen all its draws has recorded what is real.
        return self._num_seen >= len(self._order)

    @property
    def num_recorded(self) -> int:
        return self._num_recorded

    @property
    def batches_left(self) -> tuple[IndexArray, np.ndarray]:
        """The real samples each rank had left, int64 (R,), and this rank's draws with its repeats."""
        return self._lengths, self._order

    def num_left_now(self) -> IndexArray:
        """What this rank's shards have still to train, int64 (V,), 0 for those of others."""
        left = np.zeros(self.shards.num_shards, np.int64)
        real = self._order[self._order >= 0].astype(np.int64)
        missing = real[~self.recorded[self.shards.locate(real)]]
        np.add.at(left, missing % self.shards.num_shards, 1)
        return left

    # -- Its order on this rank --------------------------------------------------------------------

    def num_draws(self, resumes: bool = True) -> int:
        if resumes:
            return len(self._order)
        return self._num_rounds(self.shards.longest(self._num_trained))

    def draws(self, resumes: bool = True) -> Iterator[int]:
        order = self.share_of_rank(resumes)
        for part in chunks(len(order)):  # a list of them all would be ten times as large
            samples = order[part]
            if resumes and self._num_seen:
                samples = samples[~self.is_recorded(samples)]
            yield from samples.tolist()

    def share_of_rank(self, resumes: bool = True) -> np.ndarray:
        return self._order if resumes else self._whole_order()

    def is_recorded(self, samples: np.ndarray) -> np.ndarray:
        real = samples >= 0
        real[real] = self.recorded[self.shards.locate(samples[real].astype(np.int64))]
        return real

    def _whole_order(self) -> np.ndarray:
        order = shard_order(self.shards, self.drawn.codes, self._seed, self.number, self._num_trained)
        return filled(order, self._source_of(order), self.num_draws(resumes=False))

    def _source_of(self, order: np.ndarray) -> np.ndarray:
        """The samples that repeats are made of, from the last: those of the whole epoch, or any one."""
        return order if len(order) else self.indices[:1].numpy().astype(order.dtype)

    # -- Recording ---------------------------------------------------------------------------------

    def _record_new(self, indices: IndexArray) -> int:
        places = self.shards.locate(indices)
        num_new = tick_off(self.recorded, places, self._marks)
        self._num_recorded += num_new
        return num_new

    @property
    def left_out(self) -> IndexArray:
        unobserved: IndexArray = self.shards.held[(self.drawn.codes == 0) & ~self.recorded]
        return unobserved

    @property
    def num_unobserved(self) -> int:
        return self._num_unobserved_by_any  # or some ranks would wait for others

    def observe(self, indices: IndexArray) -> None:
        places = self.shards.locate(indices)
        outside = (indices < 0) | (places < 0)
        if outside.any():
            raise self._unselected_error(int(indices[outside][0]))
        check_left_out(indices, self.drawn.codes[places] > 0, self.number)
        self.recorded[places] = True

    def merge(self, num_recorded: int, num_unobserved: int) -> None:
        """Take over how many samples all ranks together have recorded, and not observed."""
        self._num_recorded_by_any = num_recorded
        self._num_unobserved_by_any = num_unobserved

    def check_recorded(self) -> None:
        if self._num_recorded_by_any == 0:  # or some ranks would wait for others
            super().check_recorded()

    def release(self) -> None:
        self._marks = np.empty(0, np.uint16)

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.number,
            "num_trained": self._num_trained,
            "num_selected": self.drawn.num_selected,
            "codes": torch.from_numpy(self.drawn.codes.copy()),
            "weights": torch.from_numpy(self.drawn.weights.copy()),
            "recorded": torch.from_numpy(self.recorded.copy()),
        }
