"""What is known about each sample.

A *score* is the loss a sample had when it was last trained on: a finite float32 in the loss's own
unit, usually >= 0, low for a sample the model has learned well. A sample that was never trained on
has no score, which is written NaN. A sample left out of an epoch keeps the score it had
(InfoBatch, ICLR 2024, section 2.2). NaN and infinite losses are never scores: the sample keeps its
old one and is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.scores.columns import COLUMNS, LOSSES, NO_SCORE, SIGNALS, FloatArray, IndexArray

_HIGHEST = -NO_SCORE


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
