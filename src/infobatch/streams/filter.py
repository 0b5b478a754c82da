"""Streams: samples of an iterable dataset are left out by their ids, before they are decoded.

A stream has an order of its own, and workers and ranks that read shards of their own; a sample is known
by an id that is the same in every epoch. A sample that is kept carries its *ticket*, which names it and
the epoch that let it through: however late it arrives, its loss is weighed as that epoch says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from infobatch.compiling import outside_graphs
from infobatch.epoch import unselected_error
from infobatch.inputs import Indices, all_below, check_losses, host_indices, remembered_of
from infobatch.layouts.shuffled_epoch import epoch_order
from infobatch.loading.sampler import begin_pass
from infobatch.losses import sent_to_device, weighted_mean
from infobatch.policies.base import refuse_refreshing
from infobatch.pruner import DynamicPruner
from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.streams.batches import BatchSize, in_batches
from infobatch.streams.gate import Gate
from infobatch.streams.order import StreamBatches, StreamOrder
from infobatch.streams.sample_ids import Key, SampleIds, id_getter
from infobatch.user_draws import UserDraws
from infobatch.user_warnings import warn_user

__all__ = ["BatchedStream", "FilteredStream", "SampleIds", "StreamFilter"]

ENTRY = "__tickets__"  # as webdataset marks entries that are not to be decoded
"""The entry in which a sample that is a mapping, and so a batch of them, holds the tickets."""

LONGEST = 1.5
"""There is a warning if an epoch has more than this many times the samples that it should have."""


class StreamFilter:
    """Lets through the samples of a stream that an epoch trains; call it on a stream before decoding.

    Copies in worker processes see each new epoch. An id that comes twice is trained twice, unless the
    run is resumed in between.

    Args:
        pruner: Made of :class:`SampleIds`, or of ``range(N)`` where the ids are 0..N-1. Its epochs
            select as they would from a dataset with random access.
        key: Where a sample has its id: the name or the position of an entry, or a function.
        batch_size: Samples in a batch, on each rank; on full data, where batches shrink.
        length: Samples that the stream gives on this rank in an epoch on full data; by default an equal
            share of all.
        entry: The entry that a sample gets its ticket in, if it is a mapping. Any other sample becomes
            ``(ticket, sample)``.

    Raises:
        ValueError: For ``normalizer="mean"``, and for policies that go by the losses of all samples.
    """

    def __init__(
        self,
        pruner: DynamicPruner,
        key: Key,
        batch_size: int,
        *,
        length: int | None = None,
        entry: str = ENTRY,
    ) -> None:
        if pruner.normalizer == "mean":
            raise ValueError(
                "normalizer='mean' divides by the mean weight of the epoch under way, and samples of a "
                "stream may be of the one before; use 'batch' or 'weights'"
            )
        refuse_refreshing(pruner.policy, "a stream")
        self.entry = entry
        self._pruner = pruner
        self._key = key
        self._ids = pruner.dataset if isinstance(pruner.dataset, SampleIds) else None
        self._gate = Gate(pruner.num_samples)
        self._streams: list[Any] = []
        self._weights: dict[int, FloatArray] = {}  # of the epoch under way and of the one before
        self._full_size = batch_size
        self._shrink = pruner.plan.shrink
        length = pruner.replicas.share_of(pruner.num_samples) if length is None else length
        if self._shrink is None:
            order: Any = StreamOrder(self._begin, self._note_length, length)
            pruner.filter(order, batch_size)
        else:
            batches: Any = StreamBatches(self._begin, self._note_length, length, batch_size)
            pruner.filter_batches(batches)
        self._begin()

    def __call__(self, stream: Iterable[Any]) -> FilteredStream:
        """The stream without what is left out. From here on its ``set_epoch``, if any, is called."""
        if hasattr(stream, "set_epoch"):
            self._streams.append(stream)
            stream.set_epoch(self._pruner.epoch)
        return FilteredStream(self, stream)

    def kept(self, samples: Iterable[Any]) -> Iterator[Any]:
        """The samples to train, with their tickets, of one pass that a worker of this rank reads."""
        if self._shrink is not None:
            raise RuntimeError(
                "the pruner shrinks batches, and a loader makes those of single samples as large as on "
                "full data; have the stream make them: DataLoader(keep(stream).map(decode).batched(), "
                "batch_size=None, collate_fn=default_collate). Or leave out steps: shrink='steps'"
            )
        return (sample for _, sample in self._passing(samples))

    def kept_in_batches(
        self, samples: Iterable[Any], function: Callable[[Any], Any]
    ) -> Iterator[list[Any]]:
        """What :meth:`kept` gives, with a function called on each, in lists: see :func:`in_batches`."""
        passing = ((epoch, function(sample)) for epoch, sample in self._passing(samples))
        return in_batches(passing, self._batch_size)

    def _passing(self, samples: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """The samples to train, with their tickets, each after the epoch that let it through."""
        id_of, num_samples = id_getter(self._key), self._gate.num_samples
        for ticket, sample in self._gate.passing(samples, lambda sample: self._index(id_of(sample))):
            epoch = ticket // num_samples - 1
            if isinstance(sample, Mapping):
                yield epoch, {**sample, self.entry: ticket}
            else:
                yield epoch, (ticket, sample)

    def _batch_size(self, epoch: int) -> BatchSize:
        mean = self._gate.batch_size(epoch)
        if self._shrink is None or mean == self._full_size:
            return BatchSize(mean)
        return BatchSize(mean, self._shrink.multiple, self._shrink.smallest)

    # -- The loop's one call, and what it is made of -----------------------------------------------

    def update(
        self,
        losses: Tensor,
        tickets: Indices,
        scored: Tensor | None = None,
        *,
        scores: Tensor | None = None,
        **signals: Tensor,
    ) -> Tensor:
        """Record a batch's losses and return their weighted mean, to call ``backward()`` on.

        Args:
            losses: Loss of each sample, shape (B,): see :meth:`DynamicPruner.update`, also for the rest.
            tickets: Tickets of the samples, shape (B,), as they came with the batch.
            scored: Whether a sample has a score, bool (B,); by default all have.
            scores: What to remember of the samples in place of their losses, shape (B,).
            **signals: What the policy reads beside losses.

        Returns:
            A scalar with the gradient of the weighted mean: see :meth:`DynamicPruner.update`.
        """
        loss: Tensor = self._pruner.returned(self.weigh(losses, tickets))
        self.record(losses, tickets, scored, scores=scores, **signals)
        return loss

    def weigh(self, losses: Tensor, tickets: Indices) -> Tensor:
        """The weighted mean alone: see :meth:`DynamicPruner.weigh`."""
        epochs, indices = self._read(tickets)
        if epochs is None:
            return self._pruner.weigh(losses, indices)
        check_losses(losses, indices, None)
        weights = sent_to_device(self.weights(tickets), losses.device)
        return weighted_mean(losses, weights, self._pruner.normalizer)

    @outside_graphs
    def record(
        self,
        losses: Tensor,
        tickets: Indices,
        scored: Tensor | None = None,
        *,
        scores: Tensor | None = None,
        **signals: Tensor,
    ) -> None:
        """Record alone: see :meth:`DynamicPruner.record`.

        Samples that the epoch before let through are passed over: they were prefetched, and belong to
        no selection that is still to be trained. They keep their scores.
        """
        epochs, indices = self._read(tickets)
        if epochs is not None:
            check_losses(losses, indices, scored)
            current = epochs == self._pruner.epoch
            chosen = sent_to_device(torch.from_numpy(np.flatnonzero(current)), losses.device)
            scores = None if scores is None else remembered_of(losses, scores).detach()[chosen]
            losses, indices = losses.detach()[chosen], indices[current]
            scored = None if scored is None else scored[chosen]
            signals = {name: values.detach()[chosen] for name, values in signals.items()}
        if len(indices):
            if self._pruner.current.finished:
                begin_pass(self._pruner)  # raises
            self._pruner.record(losses, indices, scored, scores=scores, **signals)
            self._gate.note_recorded(indices)
            self._note_length()
            self._check_length(len(indices))

    @outside_graphs
    def weights(self, tickets: Indices) -> Tensor:
        """The weights of tickets, float32 (B,) on the host."""
        epochs, indices = self._read(tickets)
        if epochs is None:
            return self._pruner.weights(indices)
        weights = np.empty(len(indices), np.float32)
        for epoch, of_epoch in self._weights.items():
            mine = epochs == epoch
            weights[mine] = of_epoch[indices[mine]]
        if (weights == 0).any():
            wrong = int(np.flatnonzero(weights == 0)[0])
            raise unselected_error(int(indices[wrong]), int(epochs[wrong]), self._pruner.num_samples)
        return torch.from_numpy(weights)

    def indices(self, tickets: Indices) -> IndexArray:
        """The indices of the samples in the pruner's scores, int64 (B,)."""
        indices: IndexArray = self._read(tickets)[1]
        return indices

    @property
    def num_batches_left(self) -> int:
        """Batches that the epoch under way has still to train on this rank, to cut an endless stream."""
        draws, epoch = self._draws, self._pruner.epoch
        return math.ceil(max(0.0, draws.expected - draws.num_recorded) / self._gate.batch_size(epoch))

    # -- Inside ------------------------------------------------------------------------------------

    @outside_graphs
    def _read(self, tickets: Indices) -> tuple[IndexArray | None, IndexArray]:
        """The epoch that each ticket is of, None if all are of the one under way; and the indices."""
        numbers, num_samples = host_indices(tickets), self._pruner.num_samples
        indices = numbers - (self._pruner.epoch + 1) * num_samples
        if all_below(indices, num_samples):
            return None, indices
        epochs, indices = np.divmod(numbers, num_samples)
        epochs -= 1
        foreign = ~np.isin(epochs, list(self._weights))
        if foreign.any():
            known = " and ".join(map(str, self._weights))
            raise ValueError(
                f"{numbers[foreign][0]} is no ticket of a sample that epoch {known} let through; pass "
                f"what came in the batch's {self.entry!r} as it came, and none from two epochs before"
            )
        return epochs, indices

    def _index(self, sample_id: Any) -> int:
        if self._ids is not None:
            return self._ids.number(sample_id)
        num_samples = self._gate.num_samples
        try:
            index: int = range(num_samples)[sample_id]
        except (TypeError, IndexError):
            index = -1
        if index != sample_id:
            raise ValueError(
                f"the stream gives the id {sample_id!r}, none of the numbers 0..{num_samples - 1} that "
                "the pruner was made for; make it for other ids with "
                "DynamicPruner(SampleIds.of(stream, key), ...)"
            )
        return index

    @property
    def _draws(self) -> UserDraws:
        """The draws of the epoch under way: to the pruner, the stream is a sampler of the user's own."""
        draws = self._pruner.current.user_draws
        assert draws is not None
        return draws

    def _begin(self) -> None:
        """Let workers see the epoch that has begun, or was resumed."""
        pruner, draws, current = self._pruner, self._draws, self._pruner.current
        epoch, selection = current.number, current.selection
        before = {number: weights for number, weights in self._weights.items() if number == epoch - 1}
        weights: FloatArray = selection.weights.numpy()
        size: float = self._full_size
        if pruner.plan.shrink is not None:
            weights = self._pruner.relative(weights)
            if selection.num_selected < pruner.num_samples:
                size = draws.expected / max(1, pruner.plan.num_batches(epoch))
        self._weights = {**before, epoch: weights}
        num_trained = pruner.plan.num_trained(epoch, selection.num_selected)
        wanted = np.zeros(pruner.num_samples, bool)
        wanted[epoch_order(pruner.seed, epoch, selection)[:num_trained].numpy()] = True
        draws.give_freely()
        self._gate.open(epoch, wanted & (draws.counts == 0), size)
        for stream in self._streams:
            stream.set_epoch(epoch)

    def _note_length(self) -> None:
        """Note the length of the epoch, once all workers have come to the end of their shards."""
        draws, num_found = self._draws, self._gate.num_found
        if num_found is None:
            return
        if draws.length is None:
            draws.length = draws.num_before + num_found
        if self._pruner.replicas.num_replicas == 1:  # else ranks may end in step with one another
            draws.most_dropped = self._gate.most_dropped(self._full_size)

    def _check_length(self, num_new: int) -> None:
        """Warn, once an epoch, of a stream that is much longer than it was said to be."""
        draws = self._draws
        most = LONGEST * draws.expected
        if draws.num_recorded - num_new <= most < draws.num_recorded:
            warn_user(
                f"the stream has given {draws.num_recorded:,} samples of epoch {self._pruner.epoch}, "
                f"which should have about {round(draws.expected):,} on this rank: perhaps each "
                "worker or rank reads all of it. Have them share out the shards, or give StreamFilter "
                "its length="
            )

    def __getstate__(self) -> dict[str, Any]:
        """For a worker, which lets samples through and records none."""
        return {**self.__dict__, "_pruner": None, "_weights": {}, "_streams": []}


class ResumedByFilter:
    """A stream of which a resumed run is given what was not recorded, whatever its loader's state says.

    That it has a state keeps a StatefulDataLoader from skipping as much a second time.
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing that matters: the pruner's state tells what was recorded."""
        return {"skips": False}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Change nothing.

        Args:
            state_dict: What :meth:`state_dict` gave.
        """


class FilteredStream(ResumedByFilter, IterableDataset[Any]):
    """A stream without the samples that an epoch leaves out. Made by calling a :class:`StreamFilter`.

    Args:
        keep: The filter.
        stream: The samples, not yet decoded.
        functions: Functions that are called on each sample that is kept, one after another.
    """

    def __init__(
        self, keep: StreamFilter, stream: Iterable[Any], functions: tuple[Callable[[Any], Any], ...] = ()
    ) -> None:
        self._keep = keep
        self._stream = stream
        self._functions = functions

    def map(self, function: Callable[[Any], Any]) -> FilteredStream:
        """The stream with a function, such as what decodes it, called on each sample that is kept."""
        return FilteredStream(self._keep, self._stream, (*self._functions, function))

    def batched(self) -> BatchedStream:
        """The stream in lists of samples: the batches that the epoch should have, for batch_size=None.

        Where batches shrink, a list has the mean size of the batches of the epoch under way: each worker
        cuts what it reads evenly. Otherwise, and on full data, it has the filter's batch size.
        """
        return BatchedStream(self._keep, self._stream, self._made)

    def _made(self, sample: Any) -> Any:
        """What the functions make of a sample."""
        for function in self._functions:
            sample = function(sample)
        return sample

    def __iter__(self) -> Iterator[Any]:
        return map(self._made, self._keep.kept(self._stream))


class BatchedStream(ResumedByFilter, IterableDataset[list[Any]]):
    """A stream of lists of samples. Made by :meth:`FilteredStream.batched`.

    Args:
        keep: The filter.
        stream: The samples, not yet decoded.
        function: Called on each sample that is kept.
    """

    def __init__(
        self, keep: StreamFilter, stream: Iterable[Any], function: Callable[[Any], Any]
    ) -> None:
        self._keep = keep
        self._stream = stream
        self._function = function

    def __iter__(self) -> Iterator[list[Any]]:
        return self._keep.kept_in_batches(self._stream, self._function)
