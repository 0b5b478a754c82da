"""The score table: its columns for all samples, and how batches change them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.noise import are_negative
from infobatch.scores.columns import (
    CLOCK,
    COLUMNS,
    DRAW,
    ERRORS,
    LOSSES,
    NO_SCORE,
    NORMS,
    SIGNALS,
    BoolArray,
    FloatArray,
    IndexArray,
)
from infobatch.state import check_fields

_HIGHEST = -NO_SCORE


class ScoreTable:
    """The columns of all N samples, on the host.

    ``table["last_loss"]`` is a column as a tensor, shape (N,), or (N, width) for a column of several
    numbers a sample. It shares the table's memory: read it, and write by :meth:`write`.

    Args:
        num_samples: N.
        columns: Names in :data:`COLUMNS`. The two that every run keeps, the default, take 8 bytes a
            sample.

    Raises:
        ValueError: For a name that is not in :data:`COLUMNS`.
    """

    def __init__(self, num_samples: int, columns: Sequence[str] = ("last_loss", "visits")) -> None:
        unknown = [name for name in columns if name not in COLUMNS]
        if unknown:
            raise ValueError(
                f"unknown score column {unknown[0]!r}: the table keeps {', '.join(COLUMNS)}"
            )
        self.num_samples = num_samples
        self.num_nonfinite = 0  # losses or signals that were NaN or infinite, on this rank
        self.made_of: str | None = None  # what losses look like that are no plain cross-entropies
        self._values = {name: COLUMNS[name].make(num_samples) for name in columns}
        self._num_batches: int | None = None  # None if only the columns know

    @property
    def last_norms(self) -> Tensor | None:
        """The last norm of each sample's gradient, float32 (N,), NaN where unknown; None if not kept.

        Where norms are kept as a running mean alone, it is that.
        """
        for name in ("recent_norms", "smoothed_norms"):
            if name in self._values:
                return self[name][:, 1]
        for name in ("gradient_norm", "smoothed_norm"):
            if name in self._values:
                return self[name]
        return None

    def add(self, columns: Sequence[str]) -> None:
        """Keep further columns, of which nothing is known yet."""
        for name in columns:
            self._values.setdefault(name, COLUMNS[name].make(self.num_samples))

    def begin_epoch(self) -> None:
        """Forget what columns hold of the epoch that ended."""
        for name, values in self._values.items():
            if COLUMNS[name].of_epoch:
                values.fill(COLUMNS[name].initial)

    def forget_draw(self) -> None:
        """Forget what columns hold of a draw that was made of an epoch and is discarded."""
        for name in self.columns:
            if COLUMNS[name].signal == DRAW:
                self._values[name] = COLUMNS[name].make(self.num_samples)

    @classmethod
    def from_losses(
        cls, losses: Tensor | np.ndarray, columns: Sequence[str] = ("last_loss", "visits")
    ) -> ScoreTable:
        """Make a table as if each sample had been trained once, with a given loss.

        Columns that do not follow losses keep their initial values.

        Args:
            losses: (N,), NaN for a sample that has none.
            columns: Names in :data:`COLUMNS`.
        """
        values = torch.as_tensor(losses).detach().to("cpu", torch.float32).flatten()
        table = cls(len(values), columns)
        following = [name for name in columns if COLUMNS[name].signal == LOSSES or name == "visits"]
        known = np.flatnonzero(values.isfinite().numpy())
        batch = {LOSSES: values.numpy()[known], CLOCK: np.zeros(len(known), np.float32)}
        table._take_in(known, batch, following)
        table.num_nonfinite = 0
        return table

    def begin(self, losses: FloatArray, norms: FloatArray | None = None) -> None:
        """Take in losses that are known before any training, so that no sample has been visited.

        Args:
            losses: (N,), NaN where unknown.
            norms: The norms of gradients, (N,); None if they are not known.
        """
        batch = {LOSSES: losses} if norms is None else {LOSSES: losses, NORMS: norms}
        columns = [
            name for name in self.columns if COLUMNS[name].signal in batch and not COLUMNS[name].training
        ]
        self._take_in(np.arange(len(losses)), batch, columns)
        self.num_nonfinite = 0

    def grow(self, num_samples: int) -> None:
        """Add samples at the end, up to a number of them, that have no score."""
        for name, values in self._values.items():
            longer = COLUMNS[name].make(num_samples)
            longer[: len(values)] = values
            self._values[name] = longer
        self.num_samples = num_samples

    def replacing(self, column: str, values: Tensor) -> ScoreTable:
        """A table with another column of that name, which shares the others with this one.

        Args:
            column: Its name.
            values: (N,), which nobody may write to from then on.
        """
        table = copy(self)
        table._values = dict(self._values)
        table.adopt(column, values)
        return table

    def adopt(self, column: str, values: Tensor) -> None:
        """Take over a column without copying it.

        Args:
            column: Its name.
            values: (N,), which nobody may write to from then on.
        """
        self._values[column] = values.numpy()
        if column == "trained_at":
            self._num_batches = None

    def write(self, column: str, values: Tensor | np.ndarray) -> None:
        """Copy values into a column, of its shape; its dtype stays.

        Args:
            column: Its name.
            values: (N,), or (N, width) for a column of several numbers a sample.
        """
        self[column].copy_(torch.as_tensor(values))
        if column == "trained_at":
            self._num_batches = None

    def part(self, indices: IndexArray) -> ScoreTable:
        """Copy the rows of some samples into a table of their own.

        Args:
            indices: The samples, (n,), in the order of the new table.
        """
        table = ScoreTable(len(indices), self.columns)
        table._values = {name: values[indices] for name, values in self._values.items()}
        return table

    def means_of(self, groups: IndexArray, num_groups: int) -> ScoreTable:
        """The table of groups of samples, in which a group has the means of its samples.

        Args:
            groups: The group of each sample, (N,), numbered 0..G-1.
            num_groups: G. A group of which no sample has a value keeps the initial one.
        """
        table = ScoreTable(num_groups, self.columns)
        for name, values in self._values.items():
            known = ~np.isnan(values)
            sums, counts = np.zeros((2, *table._values[name].shape))
            np.add.at(sums, groups, np.where(known, values, 0))
            np.add.at(counts, groups, known)
            has_value = counts > 0
            means = sums[has_value] / counts[has_value]
            is_whole = np.issubdtype(values.dtype, np.integer)
            table._values[name][has_value] = means.round() if is_whole else means
        return table

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, column: str) -> Tensor:
        if column not in self._values:
            raise KeyError(
                f"the table has no column {column!r}, only {', '.join(self.columns)}; a policy must "
                "name all that it reads in its `columns`, and an exported table has those that its "
                "run's policy named"
            )
        return torch.from_numpy(self._values[column])

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the table's columns."""
        return tuple(self._values)

    @property
    def tells_norms(self) -> bool:
        """Whether norms of gradients are given, or follow from the losses as a run says, if roughly."""
        if self.made_of is not None and self.made_of.startswith(ERRORS):
            return False
        return self.last_norms is not None or not are_negative(self._values["last_loss"])

    @property
    def signals(self) -> tuple[str, ...]:
        """The signals that the columns follow beside losses, in the order that :meth:`record` takes."""
        return _signals_of(self._values)

    @property
    def observed_signals(self) -> tuple[str, ...]:
        """Those of columns that observing changes, in the order that :meth:`observe` takes."""
        return _signals_of(name for name in self._values if not COLUMNS[name].training)

    def record(
        self,
        indices: IndexArray,
        losses: FloatArray,
        *signals: FloatArray,
        again: BoolArray | None = None,
    ) -> None:
        """Take in the losses of samples that were trained on.

        A sample that is repeated within the batch counts once, with the last of its losses. A sample
        without a score, or with a loss or a signal that is NaN or infinite, keeps its old values, but
        counts as trained.

        Args:
            indices: The batch's samples, (B,).
            losses: (B,), in which :data:`NO_SCORE` marks a sample that has none.
            *signals: What the columns follow beside losses, each (B,), in the order of :attr:`signals`.
            again: Which of the samples were trained before in the epoch, (B,); None if none was.
        """
        batch = _named(self.signals, losses, *signals)
        is_new = again is None or not again.all()  # else a second evaluation of a step, say
        time = self._time(moves_on=is_new) if "trained_at" in self._values else 0
        batch[CLOCK] = np.full(len(indices), time, np.int32)
        self._take_in(indices, batch, self.columns, again)

    def observe(self, indices: IndexArray, losses: FloatArray, *signals: FloatArray) -> None:
        """Take in the losses of samples that were observed, and not trained on.

        Columns that only training changes keep their values.

        Args:
            indices: The batch's samples, (B,).
            losses: (B,), as :meth:`record` takes them.
            *signals: Each (B,), in the order of :attr:`observed_signals`.
        """
        columns = [name for name in self.columns if not COLUMNS[name].training]
        self._take_in(indices, _named(self.observed_signals, losses, *signals), columns)

    def _time(self, moves_on: bool) -> int:
        """How many batches have been recorded, and with this one if time ``moves_on``."""
        if self._num_batches is None:
            self._num_batches = int(self._values["trained_at"].max(initial=0))
        self._num_batches += moves_on
        return self._num_batches

    def _take_in(
        self,
        indices: IndexArray,
        batch: dict[str, FloatArray],
        columns: Sequence[str],
        again: BoolArray | None = None,
    ) -> None:
        """Change ``columns`` by a batch (B,) that has losses and perhaps signals."""
        trained = indices, batch, again
        losses = batch[LOSSES]
        finite = np.abs(losses) < _HIGHEST
        for signal in {COLUMNS[name].signal for name in columns if not COLUMNS[name].of_epoch}:
            if signal in batch:
                finite &= np.isfinite(batch[signal])
        if np.count_nonzero(finite) < len(finite):
            self.num_nonfinite += int(np.count_nonzero(~finite & (losses != NO_SCORE)))
            indices = indices[finite]
            again = None if again is None else again[finite]
            batch = {name: values[finite] for name, values in batch.items()}
        if NORMS in batch and batch[NORMS].min(initial=0) < 0:
            at = int(batch[NORMS].argmin())
            raise ValueError(
                f"{NORMS} of sample {indices[at]} is {batch[NORMS][at]:.4g}; a norm is at least 0: give "
                "each sample's own, not its logarithm or a component"
            )
        scored = indices, batch, again
        for name in columns:
            values, column = self._values[name], COLUMNS[name]
            indices, batch, again = trained if column.signal == CLOCK else scored
            if column.signal not in batch or len(indices) == 0:
                continue
            old, followed = values[indices], batch[column.signal]
            new = column.update(old, followed)
            if again is not None and column.again is not None:
                new[again] = column.again(old[again], followed[again])
            values[indices] = new

    def flat(self) -> dict[str, Tensor]:
        """All columns in shape (N,): a wider one is split into ``name_0``, ``name_1`` and so on."""
        columns = {}
        for name in self.columns:
            if COLUMNS[name].width == 1:
                columns[name] = self[name]
            else:
                columns |= {f"{name}_{place}": row for place, row in enumerate(self[name].T)}
        return columns

    def state_dict(self) -> dict[str, Any]:
        """A copy of the columns, and what is known of the losses in them."""
        columns = {name: self[name].clone() for name in self.columns}
        return {"columns": columns, "num_nonfinite": self.num_nonfinite, "made_of": self.made_of}

    @staticmethod
    def check_state(state: Any, num_samples: int) -> None:
        """Raise ``ValueError`` unless it is the state of a table of so many samples, of any columns."""
        fields = {"columns": dict, "num_nonfinite": int, "made_of": (str, None)}
        check_fields(state, fields, "'scores' in the checkpoint")
        unsure = {
            name: COLUMNS[name].fields(num_samples) for name in state["columns"] if name in COLUMNS
        }
        check_fields(state["columns"], unsure, "'columns' in the checkpoint")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take in a state; columns that it does not have keep their values.

        Args:
            state: What :meth:`state_dict` gave.
        """
        for name in self.columns:
            if name in state["columns"]:
                self.adopt(name, torch.empty_like(self[name]).copy_(state["columns"][name]))
        self.num_nonfinite, self.made_of = state["num_nonfinite"], state["made_of"]


def _signals_of(columns: Iterable[str]) -> tuple[str, ...]:
    read = {COLUMNS[name].signal for name in columns}
    return tuple(name for name in SIGNALS if name in read)


def _named(signals: Sequence[str], *rows: FloatArray) -> dict[str, FloatArray]:
    """A batch's losses and signals by the name that columns know them by."""
    return dict(zip((LOSSES, *signals), rows, strict=True))
