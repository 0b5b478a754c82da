"""What is known about each sample.

A *score* is the loss a sample had when it was last trained on: a finite float32 in the loss's own
unit, usually >= 0, low for a sample the model has learned well. A sample that was never trained on
has no score, which is written NaN. A sample left out of an epoch keeps the score it had
(InfoBatch, ICLR 2024, section 2.2). NaN and infinite losses are never scores: the sample keeps its
old one and is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

IndexArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float32]]

NO_SCORE = -3.4028234663852886e38  # the lowest float32, which no loss takes
"""Stands for the loss of a sample that has none (no valid pixel, no supervised token)."""

_HIGHEST = -NO_SCORE


LOSSES = "losses"
DRAW = "draw"
"""Of columns that no batch changes, but the draw of an epoch."""
SIGNALS = {
    "gradient_norms": "classification_gradient_norms(logits, targets)",
    "confidences": "classification_confidences(logits, targets)",
}
"""What else a batch can tell of each of its samples, and what gives it for classification."""


@dataclass(frozen=True)
class Column:
    """What is kept for every sample, and how a batch's losses, or other signals, change it.

    ``width``: how many numbers that is; more than one are a row, and the column of shape (N, width).
    ``training``: whether training on a sample changes it, and a look at it does not.
    """

    dtype: type[np.generic]
    initial: float
    update: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (old values, the batch's) -> new values
    signal: str = LOSSES
    width: int = 1
    training: bool = False

    def make(self, num_samples: int) -> np.ndarray:
        """The column of a run that begins."""
        shape = num_samples if self.width == 1 else (num_samples, self.width)
        return np.full(shape, self.initial, self.dtype)


SMOOTHING = 0.8
BATCH_SMOOTHING = 0.9


def smoothed(old: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """S <- 0.8 s + 0.2 l, from a sample's first loss on (Raju et al., 2021, section 3)."""
    return np.where(np.isnan(old), losses, SMOOTHING * old + (1 - SMOOTHING) * losses)


def of_batch(old: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """S <- 0.9 s + 0.1 (the batch's mean loss), from 0 on (BLS, CVPR 2026, by its authors' code)."""
    mean = float(losses.mean(dtype=np.float64))
    return BATCH_SMOOTHING * old + (1 - BATCH_SMOOTHING) * mean


def below_batch(old: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Whether a loss lies below its batch's mean (RePB, ICLR 2026)."""
    return losses < float(losses.mean(dtype=np.float64))


def appended(old: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """The losses (B,) at the end of rows (B, width), whose first number goes."""
    return np.concatenate([old[:, 1:], losses[:, None]], axis=1)


COLUMNS = {
    "last_loss": Column(np.float32, float("nan"), lambda old, losses: losses),
    "smoothed_loss": Column(np.float32, float("nan"), smoothed),
    "recent_losses": Column(np.float32, float("nan"), appended, width=5),  # the latest last
    "batch_loss": Column(np.float32, 0, of_batch, training=True),
    "below_batch": Column(np.uint8, 0, below_batch, training=True),
    "visits": Column(np.int32, 0, lambda old, losses: old + 1, training=True),
    "gradient_norm": Column(np.float32, float("nan"), lambda old, norms: norms, "gradient_norms"),
    "smoothed_norm": Column(np.float32, float("nan"), smoothed, "gradient_norms"),
    "credit": Column(np.float32, float("nan"), lambda old, _: old, DRAW),
    "confidence": Column(np.float32, float("nan"), lambda old, shares: shares, "confidences"),
}


class ScoreTable:
    """The columns of all N samples, on the host: 8 bytes a sample for the two every run keeps.

    ``table["last_loss"]`` is the column itself as a tensor, shape (N,), or (N, width) for one of several
    numbers a sample: read it, do not write to it.
    """

    def __init__(self, num_samples: int, columns: Sequence[str] = ("last_loss", "visits")) -> None:
        unknown = [name for name in columns if name not in COLUMNS]
        if unknown:
            raise ValueError(
                f"unknown score column {unknown[0]!r}: the table keeps {', '.join(COLUMNS)}"
            )
        self.num_samples = num_samples
        self.num_nonfinite = 0
        self._columns = {name: COLUMNS[name].make(num_samples) for name in columns}

    @classmethod
    def from_losses(
        cls, losses: Tensor | np.ndarray, columns: Sequence[str] = ("last_loss", "visits")
    ) -> ScoreTable:
        """A table whose last losses are given, shape (N,); NaN where a sample has none.

        Columns made of other signals are as they begin.
        """
        values = torch.as_tensor(losses).to(torch.float32).flatten()
        table = cls(len(values), columns)
        of_losses = [name for name in columns if COLUMNS[name].signal == LOSSES]
        table._take_in(np.arange(len(values)), {LOSSES: values.numpy()}, of_losses)
        table.num_nonfinite = 0
        return table

    def begin(self, losses: FloatArray) -> None:
        """Take in losses (N,) known before any training, NaN for none: no sample has been visited."""
        columns = [
            name
            for name in self.columns
            if COLUMNS[name].signal == LOSSES and not COLUMNS[name].training
        ]
        self._take_in(np.arange(len(losses)), {LOSSES: losses}, columns)
        self.num_nonfinite = 0

    def part(self, indices: IndexArray) -> ScoreTable:
        """A table of the samples ``indices`` (n,) alone, in their order: a copy."""
        table = ScoreTable(len(indices), self.columns)
        table._columns = {name: column[indices] for name, column in self._columns.items()}
        return table

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, column: str) -> Tensor:
        return torch.from_numpy(self._columns[column])

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._columns)

    @property
    def signals(self) -> tuple[str, ...]:
        """What its columns are made of beside losses, in the order that :meth:`record` takes it."""
        read = {COLUMNS[name].signal for name in self._columns}
        return tuple(name for name in SIGNALS if name in read)

    def record(self, indices: IndexArray, losses: FloatArray, *signals: FloatArray) -> None:
        """Take in the losses (B,) of the samples ``indices`` (B,), and the :attr:`signals`, each (B,).

        A sample repeated within the batch counts once, with the last of its losses; one with a loss or
        a signal that is NaN or infinite keeps what it had.
        """
        self._take_in(indices, self._named(losses, *signals), self.columns)

    def observe(self, indices: IndexArray, losses: FloatArray, *signals: FloatArray) -> None:
        """The same of samples that were looked at, and not trained on."""
        columns = [name for name in self.columns if not COLUMNS[name].training]
        self._take_in(indices, self._named(losses, *signals), columns)

    def _named(self, *rows: FloatArray) -> dict[str, FloatArray]:
        return dict(zip((LOSSES, *self.signals), rows, strict=True))

    def _take_in(
        self, indices: IndexArray, batch: dict[str, FloatArray], columns: Sequence[str]
    ) -> None:
        losses = batch[LOSSES]
        finite = np.abs(losses) < _HIGHEST
        for values in batch.values():
            finite &= np.isfinite(values)
        if np.count_nonzero(finite) < len(finite):
            self.num_nonfinite += int(np.count_nonzero(~finite & (losses != NO_SCORE)))
            indices = indices[finite]
            batch = {name: values[finite] for name, values in batch.items()}
        if len(indices) == 0:
            return
        for name in columns:
            column, kind = self._columns[name], COLUMNS[name]
            if kind.signal in batch:
                column[indices] = kind.update(column[indices], batch[kind.signal])

    def flat(self) -> dict[str, Tensor]:
        """All columns as ones of shape (N,); a wider one is ``name_0``, ``name_1`` and so on."""
        columns = {}
        for name in self.columns:
            if COLUMNS[name].width == 1:
                columns[name] = self[name]
            else:
                columns |= {f"{name}_{place}": row for place, row in enumerate(self[name].T)}
        return columns

    def state_dict(self) -> dict[str, Any]:
        columns = {name: self[name].clone() for name in self.columns}
        return {"columns": columns, "num_nonfinite": self.num_nonfinite}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self.columns:
            if name in state["columns"]:
                self[name].copy_(state["columns"][name])
        self.num_nonfinite = state["num_nonfinite"]


# A block on its way: its batches' indices, the host's copy of their numbers, when that is complete.
_Arriving = tuple[list[IndexArray], Tensor, torch.cuda.Event | None]


class LossBuffer:
    """Losses, and other signals, on their way from the device to the host, without a step ever waiting.

    Those on the host go to the sink at once. Others are copied into a block on their device; a full
    block starts an asynchronous copy to pinned host memory, and copies that have arrived go to the sink
    in later calls. Only :meth:`drain` waits. ``num_signals``: how many come with each loss.
    """

    def __init__(self, sink: Callable[..., None], capacity: int, num_signals: int = 0) -> None:
        self._sink = sink
        self._capacity = capacity
        self._width = 1 + num_signals
        self._block: Tensor | None = None
        self._filled = 0
        self._batches: list[IndexArray] = []  # what the block holds
        self._arriving: deque[_Arriving] = deque()

    def put(
        self,
        indices: IndexArray,
        losses: Tensor,
        scored: Tensor | None = None,
        num_real: int | None = None,
        signals: Sequence[Tensor] = (),
    ) -> None:
        """Queue a batch: ``indices`` int64 (B,) on the host, ``losses`` (B,) of any float dtype.

        ``scored``: bool (B,), false for a sample that has no score; ``num_real``: repeats come after.
        ``signals``: each (B,), where the losses are.
        """
        if scored is not None:
            losses = losses.float().masked_fill(~scored, NO_SCORE)
        rows = [losses, *signals]
        if num_real is not None:
            indices, rows = indices[:num_real], [row[:num_real] for row in rows]
        if losses.is_cpu:
            self._sink(indices, *(row.to(torch.float32).numpy() for row in rows))
            return
        if self._block is None or self._block.device != losses.device:
            self._send()
            shape = (self._capacity, self._width)
            self._block = torch.empty(shape, dtype=torch.float32, device=losses.device)
        for start in range(0, len(indices), self._capacity):
            part = slice(start, start + self._capacity)
            self._append(indices[part], [row[part] for row in rows])

    def drain(self) -> None:
        """Hand all that is queued to the sink; waits for the device."""
        self._send()
        while self._arriving:
            self._take()

    def _append(self, indices: IndexArray, rows: Sequence[Tensor]) -> None:
        assert self._block is not None
        end = self._filled + len(indices)
        if end > self._capacity:
            self._send()
            while self._arriving and self._has_arrived(self._arriving[0]):
                self._take()
            end = len(indices)
        for place, row in enumerate(rows):
            self._block[self._filled : end, place].copy_(row)
        self._batches.append(indices.copy())
        self._filled = end

    def _send(self) -> None:
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
        event = entry[2]
        return event is None or bool(event.query())  # type: ignore[no-untyped-call]

    def _take(self) -> None:
        batches, numbers, event = self._arriving.popleft()
        if event is not None:
            event.synchronize()
        ends = np.cumsum([len(indices) for indices in batches])
        for indices, part in zip(batches, np.split(numbers.numpy(), ends[:-1]), strict=True):
            self._sink(indices, *part.T)
