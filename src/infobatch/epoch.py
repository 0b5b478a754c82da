"""One epoch under way: what it trains on, in which order, and what of it has been recorded."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.distributed import Replicas
from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.seeding import epoch_generator
from infobatch.selection import Selection
from infobatch.user_order import OwnDraws


def epoch_order(seed: int, epoch: int, selection: Selection) -> Tensor:
    """The selected samples in the order they are trained, int64 (num_selected,).

    One permutation of all N samples, filtered: with nothing left out it is the order of
    ``RandomSampler(dataset, generator=epoch_generator(seed, epoch))``.
    """
    generator = epoch_generator(seed, epoch)
    permutation = torch.randperm(len(selection.weights), generator=generator)
    if selection.num_selected == len(permutation):
        return permutation
    return permutation[(selection.weights > 0)[permutation]]


def rank_share(order: Tensor, replicas: Replicas) -> Tensor:
    """Every ``num_replicas``-th sample of ``order``, equally many on each rank.

    A last round that does not divide is filled with repeats, written ``~index`` (negative): they
    have weight 0 and are not recorded.
    """
    if replicas.num_replicas == 1:
        return order
    missing = -len(order) % replicas.num_replicas
    if missing and len(order):
        # From the end, so that a run resumed within the epoch has the same ones.
        order = torch.cat([order, ~order.flip(0)[torch.arange(missing) % len(order)]])
    return order[replicas.rank :: replicas.num_replicas]


class Epoch:
    """One epoch under way: its selection and order, and which samples have been recorded.

    ``num_trained``: the length of its order, less than the selection where the run ends within the
    epoch or the loader drops a last short batch. ``resume_order``: what was still to be trained when it
    began or was resumed, on all ranks; ``share``: this rank's part of that. ``recorded`` bool (N,): the
    samples of which losses came in, trained or, of those left out, observed. It lasts 13 bytes a sample:
    weights (4), order (at most 8), recorded (1). ``own``: where the user's own sampler orders it, what
    that gives; order and share then only say what is selected.
    """

    def __init__(
        self,
        number: int,
        selection: Selection,
        seed: int,
        num_trained: int,
        replicas: Replicas | None = None,
        recorded: Tensor | None = None,
        own: OwnDraws | None = None,
    ) -> None:
        self.number = number
        self.selection = selection
        self.order = epoch_order(seed, number, selection)[:num_trained]
        self.weights: FloatArray = selection.weights.numpy()
        num_samples = len(self.weights)
        self.recorded = np.zeros(num_samples, bool) if recorded is None else recorded.numpy().copy()
        self.num_recorded = self._num_recorded()
        self.replicas = replicas or Replicas()
        self.resume_order = self.order
        if self.num_recorded:
            self.resume_order = self.order[~torch.from_numpy(self.recorded)[self.order]]
        self.share = rank_share(self.resume_order, self.replicas)
        self.own = own
        self.agreed = False  # whether the ranks are known to train the same epoch
        self._num_resumed = self.num_recorded
        self._num_seen = 0
        # Whether a run was resumed when this epoch had been recorded whole.
        self.resumed_at_end = own.finished if own else len(self.resume_order) == 0

    @property
    def length(self) -> int:
        """The draws it has on all ranks; with a sampler of one's own as expected, until its end."""
        if self.own is None:
            return len(self.order)
        length = round(self.own.expected) if self.own.length is None else self.own.length
        return length * self.replicas.num_replicas

    @cached_property
    def mean_weight(self) -> float:
        """Of the samples selected on all ranks; N over their number, if the policy is unbiased."""
        return float(self.weights.sum(dtype=np.float64)) / self.selection.num_selected

    @property
    def num_trained(self) -> int:
        """The samples of its order, recorded or not, on all ranks."""
        return len(self.order)

    def num_draws(self, resumes: bool = True) -> int:
        """How many draws this rank had left when the epoch began, or else in all."""
        return len(self.share if resumes else rank_share(self.order, self.replicas))

    def draws(self, resumes: bool = True) -> Iterator[int]:
        """What this rank has still to train, in order, or else its whole share."""
        left = self.remaining if resumes else rank_share(self.order, self.replicas)
        return iter(left.tolist())

    @property
    def num_left(self) -> int:
        """The samples still to be trained on all ranks when it began or was resumed."""
        return len(self.resume_order)

    @property
    def fingerprint(self) -> int:
        """A hash of the selection, equal on ranks that drew the same."""
        return zlib.crc32(self.weights.data)

    @property
    def remaining(self) -> Tensor:
        """Of this rank's share, what has not been recorded, and the repeats."""
        if self._num_seen == 0:
            return self.share
        samples = torch.where(self.share < 0, ~self.share, self.share)
        return self.share[(self.share < 0) | ~torch.from_numpy(self.recorded)[samples]]

    @property
    def num_done(self) -> int:
        """The draws that all ranks together have recorded."""
        if self.own is None:
            return round(self.done * self.length)
        return self.own.num_recorded * self.replicas.num_replicas

    @property
    def finished(self) -> bool:
        """Whether all of this rank's share has been recorded."""
        if self.own is not None:
            return self.own.finished
        return self._num_seen >= len(self.share) and not bool((self.remaining >= 0).any())

    @property
    def selected(self) -> np.ndarray:
        """Which samples this epoch trains on, bool (N,)."""
        selected = np.zeros(len(self.weights), bool)
        selected[self.order.numpy()] = True
        return selected

    @property
    def done(self) -> float:
        """The part of the epoch that all ranks together have recorded, in [0, 1]; equal on each."""
        if self.own is not None:
            return self.own.done
        seen = self._num_resumed + self._num_seen * self.replicas.num_replicas
        return min(1.0, seen / len(self.order)) if len(self.order) else 1.0

    def weights_of(self, indices: IndexArray) -> FloatArray:
        """The weights of samples drawn in this epoch, float32 (B,); 0 for a repeat."""
        if self.replicas.num_replicas > 1 and np.minimum.reduce(indices, initial=0) < 0:
            real = indices >= 0
            weights = np.zeros(len(indices), dtype=np.float32)
            weights[real] = self.weights_of(indices[real])
            return weights
        # As unsigned numbers negative ones are too large: a single look, for this is in every step.
        if np.maximum.reduce(indices.view(np.uint64), initial=0) < len(self.weights):
            weights = self.weights[indices]
            if np.count_nonzero(weights) == len(weights):
                return weights
        raise foreign_sample(self._first_foreign(indices), self.number, len(self.weights))

    def _first_foreign(self, indices: IndexArray) -> int:
        foreign = (indices < 0) | (indices >= len(self.weights))
        foreign[~foreign] = self.weights[indices[~foreign]] == 0
        return int(indices[foreign][0])

    def record(self, indices: IndexArray) -> int | None:
        """Note that losses have been recorded: how many are not of repeats, if there may be any."""
        num_real, num_repeats = None, 0
        if self.replicas.num_replicas > 1:
            num_repeats = int(np.count_nonzero(indices < 0))
            num_real = len(indices) - num_repeats
            indices = indices[:num_real]  # repeats come last
            if self._num_seen == 0 and self.own is None:
                self._check_share(indices)
        num_new = len(indices) - int(np.count_nonzero(self.recorded[indices]))
        self.recorded[indices] = True
        self.num_recorded += num_new
        self._num_seen += num_new + num_repeats
        if self.own is not None:
            self.own.record(indices)
        return num_real

    def _check_share(self, indices: IndexArray) -> None:
        """Refuse a batch with other ranks' samples, unless it holds all of this one's too."""
        share = self.share[self.share >= 0].numpy()
        foreign = indices[~np.isin(indices, share)]
        if len(foreign) and not np.isin(share, indices).all():
            raise ValueError(
                f"sample {foreign[0]} is not of this rank's share of epoch {self.number}: the loader "
                "has another sampler than the pruner's, and would leave nothing out. Give a DataLoader "
                "of your own sampler=pruner.sampler(batch_size), and no DistributedSampler; where Ray's "
                "prepare_data_loader replaced it use infobatch.integrations.ray.pruned_loader"
            )

    def _num_recorded(self) -> int:
        return int(np.count_nonzero(self.recorded & (self.weights > 0)))

    @property
    def left_out(self) -> IndexArray:
        """What is left out and has not been observed, the share of this rank."""
        left_out = np.flatnonzero(self.weights == 0)[self.replicas.rank :: self.replicas.num_replicas]
        unobserved: IndexArray = left_out[~self.recorded[left_out]]
        return unobserved

    @property
    def num_unobserved(self) -> int:
        """The samples left out whose losses, as far as this rank knows, nobody has observed."""
        return int(np.count_nonzero((self.weights == 0) & ~self.recorded))

    def observe(self, indices: IndexArray) -> None:
        """Note that the losses of samples left out are known."""
        outside = (indices < 0) | (indices >= len(self.weights))
        if outside.any():
            raise foreign_sample(int(indices[outside][0]), self.number, len(self.weights))
        check_left_out(indices, self.weights[indices] > 0, self.number)
        self.recorded[indices] = True

    def merge(self, recorded: np.ndarray) -> None:
        """Take over what all ranks together have recorded."""
        self.recorded |= recorded
        self.num_recorded = self._num_recorded()
        if self.own is not None:
            self.own.merge(recorded & (self.weights > 0))

    def check_recorded(self) -> None:
        """Refuse to leave an epoch of which nothing was recorded, unless there was nothing to."""
        if self.num_recorded == 0 and not self.finished:
            raise RuntimeError(
                f"epoch {self.number} ends without a single recorded loss, so nothing could ever "
                "be pruned; call pruner.update(losses, samples) for every batch"
            )
        num_skipped = self._num_skipped()
        # Two ranks that share out a share again skip every other batch; more ranks skip more.
        if self.replicas.num_replicas > 1 and num_skipped > 0.4 * len(self.share):
            warnings.warn(
                f"epoch {self.number} skipped {num_skipped:,} of the {len(self.share):,} samples of "
                "this rank and recorded later ones, as if the loader were shared out among the ranks a "
                "second time. Each has its share already: do not pass the loader to "
                "accelerator.prepare(), use infobatch.integrations.accelerate.pruned_loader",
                stacklevel=2,
            )

    def _num_skipped(self) -> int:
        """Of this rank's share, the samples not recorded that come before one that is."""
        if self.own is not None:
            return 0
        recorded = self.recorded[self.share[self.share >= 0].numpy()]
        length = int(np.max(np.flatnonzero(recorded), initial=-1)) + 1
        return length - int(np.count_nonzero(recorded))

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.number,
            "weights": self.selection.weights.clone(),
            "recorded": torch.from_numpy(self.recorded.copy()),
            "draws": None if self.own is None else self.own.state_dict(),
        }

    def close(self) -> None:
        """The epoch is over, whatever of it is still missing."""
        if self.own is not None:
            self.own.close()


def foreign_sample(index: int, epoch: int, num_samples: int) -> ValueError:
    if not 0 <= index < num_samples:
        return ValueError(
            f"sample {index} does not exist: the dataset has {num_samples:,}, numbered from 0"
        )
    return ValueError(
        f"sample {index} was not selected in epoch {epoch}; pass the indices that came with the "
        "batch, and advance the epoch only when all of its batches are through"
    )


def check_left_out(indices: IndexArray, trained: np.ndarray, epoch: int) -> None:
    """Refuse to observe samples that the epoch trains on: those that are ``trained``, bool (B,)."""
    if trained.any():
        raise ValueError(
            f"sample {indices[trained][0]} is trained in epoch {epoch}, where its loss is recorded; "
            "observe only what is left out: pruner.left_out"
        )
