"""Losses on their way from the device to the score table; no training step waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from infobatch.scores.columns import NO_SCORE, BoolArray, IndexArray

# A batch's indices, and which of its samples were trained before in the epoch.
_Batch = tuple[IndexArray, BoolArray | None]
# A block on its way: its batches, the host's copy of their numbers, and an event that is done when the
# copy is complete.
_Arriving = tuple[list[_Batch], Tensor, torch.cuda.Event | None]


class LossBuffer:
    """Hands losses and other signals to a sink on the host; no training step waits for them.

    Losses on the host go to the sink at once. Others are copied into a block on their device. A full
    block starts an asynchronous copy to pinned host memory, and copies that have arrived go to the sink
    in later calls. Only :meth:`drain` waits.

    Args:
        sink: Takes a batch's indices, losses and signals, each (B,), on the host, and by ``again=``
            which of the samples were trained before, where some were.
        capacity: The number of losses in a block.
        num_signals: The number of signals that come with each loss.
    """

    def __init__(self, sink: Callable[..., None], capacity: int, num_signals: int = 0) -> None:
        self._sink = sink
        self._capacity = capacity
        self._width = 1 + num_signals
        self._block: Tensor | None = None
        self._filled = 0
        self._batches: list[_Batch] = []  # in the block
        self._arriving: deque[_Arriving] = deque()

    def put(
        self,
        indices: IndexArray,
        losses: Tensor,
        scored: Tensor | None = None,
        signals: Sequence[Tensor] = (),
        again: BoolArray | None = None,
    ) -> None:
        """Queue a batch.

        Args:
            indices: The batch's samples, int64 (B,), on the host.
            losses: (B,), of any float dtype, on any device.
            scored: False for a sample that has no score, bool (B,); by default all have one.
            signals: Each (B,), on the device of the losses.
            again: Which of the samples were trained before in the epoch, (B,); None if none was.
        """
        if scored is not None:
            losses = losses.float().masked_fill(~scored, NO_SCORE)
        rows = [losses, *signals]
        if losses.is_cpu:
            self._hand((indices, again), [row.to(torch.float32).numpy() for row in rows])
            return
        if self._block is None or self._block.device != losses.device:
            self._send()
            shape = (self._capacity, self._width)
            self._block = torch.empty(shape, dtype=torch.float32, device=losses.device)
        for start in range(0, len(indices), self._capacity):
            part = slice(start, start + self._capacity)
            self._append(
                (indices[part], None if again is None else again[part]), [row[part] for row in rows]
            )

    def drain(self) -> None:
        """Hand all queued losses to the sink, and wait for the device to do so."""
        self._send()
        while self._arriving:
            self._take()

    def _append(self, batch: _Batch, rows: Sequence[Tensor]) -> None:
        """Copy a batch into the block, which is sent first if the batch does not fit."""
        assert self._block is not None
        indices, again = batch
        end = self._filled + len(indices)
        if end > self._capacity:
            self._send()
            while self._arriving and self._has_arrived(self._arriving[0]):
                self._take()
            end = len(indices)
        for place, row in enumerate(rows):
            self._block[self._filled : end, place].copy_(row)
        self._batches.append((indices.copy(), again))
        self._filled = end

    def _send(self) -> None:
        """Start to copy the block to the host."""
        if self._filled == 0:
            return
        assert self._block is not None
        filled = self._block[: self._filled]
        event = None
        if filled.is_cuda:
            host = torch.empty(filled.shape, dtype=torch.float32, pin_memory=True)
            host.copy_(filled, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(filled.device))
        else:
            host = filled.to("cpu", copy=True)
        self._arriving.append((self._batches, host, event))
        self._filled, self._batches = 0, []

    @staticmethod
    def _has_arrived(entry: _Arriving) -> bool:
        """Whether a block's copy is complete."""
        event = entry[2]
        return event is None or bool(event.query())  # type: ignore[no-untyped-call]

    def _take(self) -> None:
        """Hand the oldest block on its way to the sink, once its copy is complete."""
        batches, numbers, event = self._arriving.popleft()
        if event is not None:
            event.synchronize()
        ends = np.cumsum([len(indices) for indices, _ in batches])
        for batch, part in zip(batches, np.split(numbers.numpy(), ends[:-1]), strict=True):
            self._hand(batch, part.T)

    def _hand(self, batch: _Batch, rows: Iterable[np.ndarray]) -> None:
        """Hand a batch to the sink."""
        indices, again = batch
        self._sink(indices, *rows, **({} if again is None else {"again": again}))
