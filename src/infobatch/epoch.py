"""One epoch under way: what it trains on, in which order, and what of it has been recorded.

:class:`Epoch` says what the rest of the library asks of an epoch. Its two kinds differ in what a rank
knows: :class:`infobatch.layouts.replicated_epoch.ReplicatedEpoch` the selection of all samples,
:class:`infobatch.layouts.sharded_epoch.ShardedEpoch` that of its own shards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch

from infobatch.batch_indices import dropped_from
from infobatch.batching import BatchEnds
from infobatch.chunks import chunks
from infobatch.distributed import Replicas, ShareCheck
from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.selection import Selection
from infobatch.user_draws import UserDraws

T = TypeVar("T")


class Epoch(ABC):
    """What a pruner, a sampler and a checkpoint ask of the epoch under way.

    A batch that cannot be shared out equally is filled with *repeats*: samples of this rank once more,
    written ``~index`` (negative), which have weight 0 and are not recorded.

    Args:
        number: Number of the epoch, from 0.
        replicas: The place of this rank among those that train one model.
        batch_ends: Where its batches end in the draws of a rank, where batches shrink; else None.

    Attributes:
        user_draws: The draws of the user's own sampler, where that orders the epoch; else None.
        agreed: Whether the ranks are known to train the same epoch.
        is_read: Whether a loader has begun to read the epoch.
        given_out: Whether one came to its end while losses were recorded.
        num_own: Draws, no repeats, that this rank recorded since the epoch began or was resumed.
        num_twice: Samples in batches that were recorded again since the epoch began or was resumed.
        is_over: Whether the loop has left it, so that what is missing will not be trained.
        resumed_at_end: Whether a run was resumed when nothing of it was to be trained any more.
    """

    user_draws: UserDraws | None = None

    def __init__(self, number: int, replicas: Replicas, batch_ends: BatchEnds | None = None) -> None:
        self.number = number
        self.replicas = replicas
        self._batch_ends = batch_ends
        self.agreed = False
        self.is_read = self.given_out = False
        self.is_over = self.resumed_at_end = False
        self._share_check: ShareCheck | None = None
        self._is_shared_once = replicas.num_replicas == 1  # or, once looked at, known to be
        self._num_seen = 0  # draws recorded since it began or was resumed, repeats among them
        self._seen_repeats: set[int] = set()
        self._first: IndexArray | None = None  # the first batch recorded since then
        self._latest: IndexArray | None = None  # the latest that was new
        self.num_own = self.num_twice = 0
        self._num_again = 0  # recorded again since the epoch was finished, those of that batch apart

    # -- What is selected --------------------------------------------------------------------------

    @property
    @abstractmethod
    def selection(self) -> Selection:
        """The selected samples of all ranks, with their weights."""

    @property
    @abstractmethod
    def indices(self) -> torch.Tensor:
        """The selected samples that this rank knows of, in rising order, int64."""

    @property
    @abstractmethod
    def num_selected(self) -> int:
        """Number of samples selected on all ranks."""

    @property
    @abstractmethod
    def mean_weight(self) -> float:
        """Mean weight of the samples selected on all ranks, each as often as it is drawn."""

    @property
    @abstractmethod
    def fingerprint(self) -> int:
        """A hash of the selection, equal on ranks that drew the same."""

    @abstractmethod
    def weights_of(self, indices: IndexArray) -> FloatArray:
        """Weights of samples drawn in this epoch, float32 (B,); 0 for a repeat.

        ``ValueError`` for a sample that was not selected.
        """

    # -- How far it is -----------------------------------------------------------------------------

    @property
    @abstractmethod
    def num_trained(self) -> int:
        """Samples that all ranks together train in it, recorded or not."""

    @property
    @abstractmethod
    def num_left(self) -> int:
        """Samples that all ranks together had still to train when it began or was resumed."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Draws on all ranks; with the user's own sampler as many as expected, until its end."""

    @property
    @abstractmethod
    def done(self) -> float:
        """The part of the epoch that all ranks together have recorded, in [0, 1]; equal on each."""

    @property
    def finished(self) -> bool:
        """Whether this rank has nothing of it to train any more."""
        return self.is_over or self.is_whole

    @property
    @abstractmethod
    def is_whole(self) -> bool:
        """Whether everything that this rank trains has been recorded."""

    @property
    @abstractmethod
    def num_recorded(self) -> int:
        """Selected samples that this rank knows to be recorded."""

    @property
    def num_done(self) -> int:
        """Draws that all ranks together have recorded."""
        return round(self.done * self.length)

    @property
    def is_resumed(self) -> bool:
        """Whether a run was resumed within it."""
        return self.num_left < self.num_trained

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was recorded since it began or was resumed."""
        return self._num_seen == 0

    @property
    def num_full(self) -> int | None:
        """Draws on all ranks if nothing were left out, where the user's own sampler has given them."""
        return None

    # -- Its order on this rank --------------------------------------------------------------------

    @abstractmethod
    def num_draws(self, resumes: bool = True) -> int:
        """Draws that this rank had left when the epoch began or was resumed.

        With ``resumes=False`` those of the whole epoch.
        """

    @abstractmethod
    def draws(self, resumes: bool = True) -> Iterator[int]:
        """What this rank has still to train, in order; with ``resumes=False`` the whole epoch."""

    @abstractmethod
    def share_of_rank(self, resumes: bool = True) -> np.ndarray:
        """What this rank had to train when the epoch began or was resumed, with its repeats.

        With ``resumes=False`` the whole epoch.
        """

    @abstractmethod
    def is_recorded(self, samples: np.ndarray) -> np.ndarray:
        """Which of some draws of this rank have been recorded, bool (n,); repeats never are."""

    @property
    def shrinks_batches(self) -> bool:
        """Whether its batches may be smaller than on full data."""
        return self._batch_ends is not None

    def batch_ends(self, resumes: bool = True) -> IndexArray:
        """Where the batches of :meth:`share_of_rank` end, where batches shrink, int64."""
        ends = self._batch_ends
        if ends is None:
            raise RuntimeError(
                "this epoch has no batches of its own: the pruner leaves out steps, or has no loader "
                "yet, or filters a sampler of yours. Make it with shrink='batches', and them with "
                "pruner.batch_sampler(batch_size)"
            )
        return ends.left(self.num_draws()) if resumes else ends.whole

    def batches(self, resumes: bool = True) -> Iterator[list[int]]:
        """The batches that this rank has still to train; with ``resumes=False`` the whole epoch's."""
        share, begin = self.share_of_rank(resumes), 0
        recorded = self.is_recorded(share) if resumes and self._num_seen else None
        for end in self.batch_ends(resumes).tolist():
            batch = share[begin:end]
            if recorded is not None:
                batch = batch[~recorded[begin:end]]
            if len(batch):
                yield batch.tolist()
            begin = end

    def passed(self, items: Iterator[T]) -> Iterator[T]:
        """The ``items`` of a loader's pass over the epoch, of whose begin and end it takes note."""
        self.is_read = True
        return chain(items, self._ends(self._num_seen))

    def begin_anew(self) -> None:
        """Let what a loader has given out, and the loop not recorded, be given once more."""
        self.given_out = False

    def _ends(self, num_seen: int) -> Iterator[Any]:
        """Gives nothing, but notes whether losses were recorded since the pass began."""
        self.given_out |= self._num_seen > num_seen
        yield from ()

    # -- Recording ---------------------------------------------------------------------------------

    def record(self, indices: IndexArray) -> int:
        """Note that the losses of a batch have been recorded, each sample once in the epoch.

        What was dropped from the batch counts as recorded, too. Returns the number of its samples that
        are not repeats.

        Raises:
            RuntimeError: If the epoch is finished, and the batch is of its beginning once more.
            ValueError: If another sampler than the run's gave the batch.
        """
        real, repeats, dropped = indices, indices[:0], dropped_from(indices)
        if np.minimum.reduce(indices, initial=0) < 0:
            real, repeats = indices[indices >= 0], indices[indices < 0]
        if not self._is_shared_once:
            self._check_shared_once(np.concatenate([real, dropped]))
        num_new = self._record_new(real)
        self.num_twice += len(real) - num_new
        if len(dropped):
            num_new += self._record_new(dropped)
        self.num_own += num_new
        if len(repeats):
            num_new += self._num_new_repeats(repeats.tolist())
        if num_new:
            self._first = indices if self._first is None else self._first
            self._latest = indices
            self._num_seen += num_new
        elif self.finished:
            self._check_not_over(real)
        return len(real)

    @abstractmethod
    def _record_new(self, indices: IndexArray) -> int:
        """Note that samples, no repeats, are recorded; returns how many of them were not before."""

    def _check_shared_once(self, indices: IndexArray) -> None:
        if self._share_check is None:
            self._share_check = ShareCheck(self.share_of_rank(), self.replicas)
        self._share_check.see(indices)
        self._is_shared_once = self._share_check.is_done

    def _num_new_repeats(self, repeats: list[int]) -> int:
        if not self._repeats_differ:
            return len(repeats)
        new = set(repeats) - self._seen_repeats
        self._seen_repeats |= new
        return len(new)

    @cached_property
    def _repeats_differ(self) -> bool:
        """Whether no two repeats of this rank are of the same sample."""
        share = self.share_of_rank()
        repeats = share[share < 0]
        return len(np.unique(repeats)) == len(repeats)

    def _check_not_over(self, indices: IndexArray) -> None:
        """Refuse a batch that a finished epoch has had, unless it is the latest, used several times."""
        if self._first is None or self._latest is None or np.isin(indices, self._latest).all():
            return
        self._num_again += len(indices)
        if np.isin(indices, self._first).all() or self._num_again > self.length:
            raise RuntimeError(
                f"epoch {self.number} is finished: all of its {self.length:,} samples have been "
                "recorded, and this batch is one of them again, as when batches are kept and given anew "
                "(itertools.cycle, a list of them); from here on nothing would be left out, and no "
                "progress made. Begin the next epoch and iterate the loader in it: `for epoch in "
                "pruner.epochs():`"
            )

    @property
    @abstractmethod
    def left_out(self) -> IndexArray:
        """Samples left out and not yet observed, the share of this rank, int64."""

    @property
    @abstractmethod
    def num_unobserved(self) -> int:
        """Samples left out whose losses, as far as this rank knows, no rank has observed."""

    @abstractmethod
    def observe(self, indices: IndexArray) -> None:
        """Note that the losses of samples left out are known. ``ValueError`` for any other sample."""

    def check_recorded(self) -> None:
        """Raise ``RuntimeError`` for an epoch of which nothing was recorded, though it had samples."""
        if self.num_recorded == 0 and not self.finished:
            counted = (
                ", and begin epochs by `for epoch in pruner.epochs():`: a loop may count from 1, where "
                "set_epoch counts from 0, and frameworks count a look at a batch as an epoch"
            )
            raise RuntimeError(
                f"epoch {self.number} ends without a single recorded loss, so nothing could ever "
                f"be pruned; call pruner.update(losses, indices) for every batch{counted}. A run "
                "that is resumed loads its state before (pruner.load_state_dict), and skips no epochs"
            )

    def resume(self, is_over: bool) -> None:
        """Go on where a state was taken, before or after the loop had left the epoch."""
        if is_over:
            self.close()
            self.resumed_at_end = True

    def close(self) -> None:
        """End the epoch, whatever of it is still missing."""
        self.is_over = True

    @abstractmethod
    def release(self) -> None:
        """Give up memory for the next epoch's; what a checkpoint holds of this one stays."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it, tensors and numbers only."""


def filled(order: np.ndarray, source: np.ndarray, length: int) -> np.ndarray:
    """What is left of an epoch's ``source``, filled up to a length with repeats (``~index``).

    They are of the source's last samples, so that a run resumed within the epoch has the same ones.
    """
    missing = length - len(order)
    if missing == 0:
        return order
    return np.concatenate([order, ~source[::-1][np.arange(missing) % len(source)]])


def tick_off(recorded: np.ndarray, places: IndexArray, marks: np.ndarray) -> int:
    """Note that some places are recorded, and count those that were not; quicker than by sorting.

    Args:
        recorded: Whether each place is, bool (N,); it is changed.
        places: Those of a batch, each below N, (B,), of which some may be equal.
        marks: Room to write in, uint16 (N,), of any content.

    Returns:
        The number of different places that were not recorded before.
    """
    num_new = 0
    for part in chunks(len(places)):
        new = places[part][~recorded[places[part]]]
        turns = np.arange(len(new), dtype=np.uint16)
        marks[new] = turns
        num_new += int(np.count_nonzero(marks[new] == turns))
        recorded[new] = True
    return num_new


def unselected_error(index: int, epoch: int, num_samples: int) -> ValueError:
    """The error for a sample that an epoch does not train on."""
    if not 0 <= index < num_samples:
        return ValueError(
            f"sample {index} does not exist: the dataset has {num_samples:,}, numbered from 0"
        )
    return ValueError(
        f"sample {index} was not selected in epoch {epoch}; pass the indices that came with the "
        "batch, from the pruner's own loader and not in validation, and advance the epoch only when all "
        "of its batches are through"
    )


def check_left_out(indices: IndexArray, trained: np.ndarray, epoch: int) -> None:
    """Raise ``ValueError`` if any of ``indices`` (B,) is among those ``trained``, bool (B,)."""
    if trained.any():
        raise ValueError(
            f"sample {indices[trained][0]} is trained in epoch {epoch}, where its loss is recorded; "
            "observe only what is left out: pruner.left_out"
        )
