"""An epoch of which each rank knows only its own shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from infobatch.epoch import Epoch, check_left_out, foreign_sample
from infobatch.layouts.shards import Shards
from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.seeding import epoch_generator
from infobatch.selection import Selection

_CHUNK = 1 << 16


@dataclass(frozen=True)
class ShardedSelection:
    """What is drawn of this rank's n samples, in C shards.

    ``codes`` uint8 (n,): 0 where left out, else a sample's stratum + 1. ``weights`` float32 (C, S + 1)
    gives the weight of each code in each shard. ``num_selected``: on all ranks.
    """

    codes: np.ndarray
    weights: FloatArray
    num_selected: int

    @classmethod
    def full(cls, shards: Shards) -> ShardedSelection:
        weights = np.tile(np.array([0, 1], np.float32), (len(shards.ids), 1))
        return cls(np.ones(shards.num_local, np.uint8), weights, shards.num_samples)


def shard_order(
    shards: Shards, codes: np.ndarray, seed: int, epoch: int, num_trained: int
) -> np.ndarray:
    """The samples of this rank in the order they are trained, int32 (or int64, if N needs it).

    A permutation of each shard, filtered by the selection and cut to the shard's part of
    ``num_trained``; then the first of each shard, the second of each, and so on, so that all shards come
    to their end together and can be taken up by other ranks at any time. Which shards' samples are
    neighbours is drawn anew each epoch.
    """
    dtype = np.int32 if shards.num_samples < 2**31 else np.int64
    sizes = shards.shared(num_trained)[shards.ids]
    order = np.empty(int(sizes.sum()), dtype)
    num_columns, num_rows = len(sizes), int(sizes.min())
    rows = order[: num_rows * num_columns].reshape(num_rows, num_columns)
    ranks_stream = shards.num_shards + shards.replicas.rank
    generator = epoch_generator(seed, epoch, rank=ranks_stream)
    rest = []
    for place, column in enumerate(torch.randperm(num_columns, generator=generator).tolist()):
        part = slice(shards.offsets[column], shards.offsets[column + 1])
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
    """One epoch under way on one of R ranks that each hold a part of N samples.

    ``num_trained``: the samples trained on all ranks. ``recorded`` bool (n,): of this rank's, as in
    :class:`Epoch`.
    ``left`` int64 (V,): what each shard had still to train when it began or was resumed; by default all.
    Ranks with less to train than another repeat samples at weight 0 until all have equally many draws,
    a multiple of ``multiple``. ``token``: anything that ranks which draw alike have in common. It lasts
    6 bytes for each sample of this rank: codes (1), recorded (1), order (at most 4).
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
        multiple: int = 1,
        token: int = 0,
    ) -> None:
        self.number = number
        self.drawn = selection
        self.shards = shards
        self.replicas = shards.replicas
        self.own = None
        self.agreed = False
        self.recorded = np.zeros(shards.num_local, bool) if recorded is None else recorded
        self.num_recorded = int(np.count_nonzero(self.recorded & (selection.codes > 0)))
        self.num_recorded_by_any = self.num_recorded
        self.num_unobserved_by_any = 0
        self.left = shards.shared(num_trained) if left is None else left
        self._seed = seed
        self._num_trained = num_trained
        self._token = token
        self._multiple = multiple
        order = shard_order(shards, selection.codes, seed, number, num_trained)
        last = self._last_of(order)
        if self.num_recorded:
            order = order[~self.recorded[shards.locate(order)]]
        self._lengths = shards.by_rank(self.left)
        assert len(order) == self._lengths[self.replicas.rank]
        self._order = _filled(order, last, self._whole(int(self._lengths.max())))
        self._num_seen = 0
        self.resumed_at_end = self.num_left == 0

    def _whole(self, length: int) -> int:
        return -(-length // self._multiple) * self._multiple

    @cached_property
    def mean_weight(self) -> float:
        return self.shards.num_samples / self.drawn.num_selected

    @property
    def selection(self) -> Selection:  # type: ignore[override]
        raise RuntimeError(
            "with layout=Sharded() no rank has the whole selection; `pruner.current.indices` are the "
            "samples of this rank, and `pruner.weights(indices)` their weights"
        )

    @property
    def indices(self) -> torch.Tensor:
        """The selected samples of this rank, int64; ``selection.indices`` of all ranks together."""
        return torch.from_numpy(self._samples()[self.drawn.codes > 0])

    @property
    def left_out(self) -> IndexArray:
        """What is left out of this rank's samples and has not been observed."""
        unobserved: IndexArray = self._samples()[(self.drawn.codes == 0) & ~self.recorded]
        return unobserved

    @property
    def num_unobserved(self) -> int:
        return self.num_unobserved_by_any  # or some ranks would wait for others

    def observe(self, indices: IndexArray) -> None:
        places = self.shards.locate(indices)
        outside = (indices < 0) | (places < 0)
        if outside.any():
            raise self._foreign(int(indices[outside][0]))
        check_left_out(indices, self.drawn.codes[places] > 0, self.number)
        self.recorded[places] = True

    def _samples(self) -> IndexArray:
        """Those of this rank, in the order of its arrays."""
        columns = range(len(self.shards.ids))
        return np.concatenate([self.shards.indices(column) for column in columns])

    @property
    def fingerprint(self) -> int:
        return self._token

    @property
    def num_trained(self) -> int:
        return self._num_trained

    @property
    def length(self) -> int:
        return self._num_trained

    @property
    def num_left(self) -> int:
        return int(self.left.sum())

    @property
    def batches_left(self) -> tuple[IndexArray, np.ndarray]:
        """The real samples each rank had left, int64 (R,), and this rank's draws with its repeats."""
        return self._lengths, self._order

    def num_draws(self, resumes: bool = True) -> int:
        if resumes:
            return len(self._order)
        return self._whole(int(self.shards.by_rank(self.shards.shared(self._num_trained)).max()))

    def draws(self, resumes: bool = True) -> Iterator[int]:
        order = self._order if resumes else self._whole_order()
        for start in range(0, len(order), _CHUNK):  # a list of them all would be ten times as large
            samples = order[start : start + _CHUNK].astype(np.int64)
            if resumes and self._num_seen:
                real = samples >= 0
                real[real] = self.recorded[self.shards.locate(samples[real])]
                samples = samples[~real]
            yield from samples.tolist()

    def _whole_order(self) -> np.ndarray:
        order = shard_order(self.shards, self.drawn.codes, self._seed, self.number, self._num_trained)
        return _filled(order, self._last_of(order), self.num_draws(resumes=False))

    def _last_of(self, order: np.ndarray) -> np.ndarray:
        """What repeats are made of; a rank that trains nothing has other selected samples."""
        if len(order) == 0:
            return self.indices[:1].numpy().astype(order.dtype)
        return order[-self.replicas.num_replicas :].copy()

    @property
    def finished(self) -> bool:
        # Repeats come last, so that a rank that has seen all its draws has recorded what is real.
        return self._num_seen >= len(self._order)

    @property
    def done(self) -> float:
        if self._num_trained == 0:
            return 1.0
        num_seen = self._num_trained - self.num_left + np.minimum(self._lengths, self._num_seen).sum()
        return float(num_seen / self._num_trained)

    def num_left_now(self) -> IndexArray:
        """What this rank's shards have still to train, int64 (V,), 0 for those of others."""
        left = np.zeros(self.shards.num_shards, np.int64)
        real = self._order[self._order >= 0].astype(np.int64)
        missing = real[~self.recorded[self.shards.locate(real)]]
        np.add.at(left, missing % self.shards.num_shards, 1)
        return left

    def weights_of(self, indices: IndexArray) -> FloatArray:
        samples = np.where(indices < 0, ~indices, indices)
        places = self.shards.locate(samples)
        weights: FloatArray = self.drawn.weights[
            self.shards.columns(samples), self.drawn.codes[np.maximum(places, 0)]
        ]
        foreign = (places < 0) | (weights == 0)
        if foreign.any():
            raise self._foreign(int(samples[foreign][0]))
        weights[indices < 0] = 0
        return weights

    def _foreign(self, sample: int) -> ValueError:
        owner = sample % self.shards.num_shards % self.replicas.num_replicas
        if sample < self.shards.num_samples and owner != self.replicas.rank:
            return ValueError(
                f"sample {sample} belongs to rank {owner}, this is rank {self.replicas.rank}; with "
                "layout=Sharded() each rank trains on its own shards, so pass the indices that came "
                "with this rank's batch"
            )
        return foreign_sample(sample, self.number, self.shards.num_samples)

    def record(self, indices: IndexArray) -> int | None:
        num_repeats = int(np.count_nonzero(indices < 0))
        num_real = len(indices) - num_repeats
        places = self.shards.locate(indices[:num_real])  # repeats come last
        num_new = len(places) - int(np.count_nonzero(self.recorded[places]))
        self.recorded[places] = True
        self.num_recorded += num_new
        self._num_seen += num_new + num_repeats
        return num_real

    def merge(self, recorded: np.ndarray) -> None:
        raise AssertionError("each rank keeps what it recorded")

    def check_recorded(self) -> None:
        if self.num_recorded_by_any == 0:  # or some ranks would wait for others
            super().check_recorded()

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.number,
            "num_trained": self._num_trained,
            "num_selected": self.drawn.num_selected,
            "codes": torch.from_numpy(self.drawn.codes.copy()),
            "weights": torch.from_numpy(self.drawn.weights.copy()),
            "recorded": torch.from_numpy(self.recorded.copy()),
        }

    def close(self) -> None:
        pass


def _filled(order: np.ndarray, last: np.ndarray, length: int) -> np.ndarray:
    """The order with repeats (``~index``) of its ``last`` samples, from the end, up to a length."""
    missing = length - len(order)
    if missing == 0:
        return order
    return np.concatenate([order, ~last[::-1][np.arange(missing) % len(last)]])
