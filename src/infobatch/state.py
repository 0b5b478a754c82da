"""What a checkpoint has to hold: the fields of a state stand beside its ``state_dict``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["REMEDY", "Array", "Fields", "Rows", "check_fields"]

Fields = Mapping[str, Any]
"""By name a type, an :class:`Array`, :class:`Rows`, or fields in turn; None beside one in a tuple says
that it may be missing its value."""

REMEDY = "resume from an older checkpoint, or begin anew"


@dataclass(frozen=True)
class Array:
    """A tensor of a checkpoint.

    Args:
        dtype: Its dtype.
        shape: Its shape; None for a length that differs.
        signed: Whether its numbers may be below 0, NaN or infinite.
    """

    dtype: torch.dtype
    shape: tuple[int | None, ...]
    signed: bool = False

    def fault(self, values: Any) -> str | None:
        if not isinstance(values, Tensor):
            return f"is a {type(values).__name__}, and no tensor"
        if values.dtype != self.dtype:
            return f"has dtype {values.dtype}, where {self.dtype} is expected"
        fits = len(values.shape) == len(self.shape) and all(
            wanted in (None, length) for wanted, length in zip(self.shape, values.shape, strict=True)
        )
        if not fits:
            wanted = str(self.shape).replace("None", "any")
            return f"has shape {tuple(values.shape)}, where {wanted} is expected"
        if not self.signed and not bool(((values >= 0) & (values < torch.inf)).all()):
            return "holds numbers below 0 or beyond bounds"
        return None


@dataclass(frozen=True)
class Rows:
    """A list of rows of numbers.

    Args:
        width: How many numbers a row has.
    """

    width: int

    def fault(self, rows: Any) -> str | None:
        is_right = isinstance(rows, list) and all(
            isinstance(row, list) and len(row) == self.width for row in rows
        )
        return None if is_right else f"is no list of rows of {self.width} numbers"


def check_fields(state: Any, fields: Fields, name: str = "the checkpoint", alone: bool = True) -> None:
    """Raise ``ValueError`` unless a state holds just these fields, each as it should be.

    Args:
        state: The state, as it was loaded.
        fields: What it has to hold.
        name: What an error calls it.
        alone: Whether it may hold no others.
    """
    if not isinstance(state, Mapping):
        raise ValueError(
            f"{name} is a {type(state).__name__}, not what state_dict() gives; load the pruner's own "
            "state"
        )
    for key in fields:
        if key not in state:
            raise ValueError(f"{name} lacks {key!r}, so it is cut or of something else; {REMEDY}")
    for key in state:
        if alone and key not in fields:
            raise ValueError(
                f"{name} has {key!r}, which this infobatch does not know and would lose; load it with "
                "the release that wrote it, and pass the pruner's own state alone"
            )
    for key, kind in fields.items():
        if isinstance(kind, tuple):
            if state[key] is None:
                continue
            (kind,) = (one for one in kind if one is not None)
        if isinstance(kind, Mapping):
            check_fields(state[key], kind, f"{key!r} in {name}")
        elif fault := _fault(state[key], kind):
            raise ValueError(f"{key!r} in {name} {fault}, so the checkpoint is damaged; {REMEDY}")


def _fault(value: Any, kind: Any) -> str | None:
    """What is wrong with a value, as the end of a sentence; None if nothing is."""
    if isinstance(kind, Array | Rows):
        return kind.fault(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        return f"is a {type(value).__name__}, where {kind.__name__} is expected"
    return f"is {value}, below 0" if kind is int and value < 0 else None
