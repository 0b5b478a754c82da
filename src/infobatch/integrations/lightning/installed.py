"""The installed Lightning: which of its two packages, and whether its version is known to be right."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

OLDEST, NEWEST = (2, 5), (2, 6)
"""The versions that the tests pass with; later ones of the same major version are let through."""


def _import_lightning() -> Any:
    """``lightning.pytorch`` or ``pytorch_lightning``: first the one that the program uses already."""
    names = ["lightning.pytorch", "pytorch_lightning"]
    for name in sorted(names, key=lambda name: name not in sys.modules):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            missing = error
    raise ImportError(
        "infobatch.integrations.lightning needs lightning: pip install 'infobatch[lightning]'"
    ) from missing


def check_version(version: str) -> None:
    """Refuse versions that cut epochs of varying length short, or resume them wrongly."""
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if not OLDEST <= found < (NEWEST[0] + 1, 0):
        raise ImportError(
            f"lightning is {version}; runs of epochs of any length are known to be right, and resumed "
            f"right, with {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}: "
            "pip install -U 'infobatch[lightning]'"
        )


def averages_weights(trainer: Any) -> bool:
    """Whether a Trainer averages weights, and then adds an epoch to those it was given."""
    average = _lightning.callbacks.StochasticWeightAveraging
    return any(isinstance(callback, average) for callback in trainer.callbacks)


def accumulated_in(trainer: Any, epoch: int) -> int:
    """The batches that a Trainer accumulates for an update in an epoch."""
    scheduler = _lightning.callbacks.GradientAccumulationScheduler
    for callback in trainer.callbacks:
        if isinstance(callback, scheduler):
            return int(callback.get_accumulate_grad_batches(epoch))
    return int(trainer.accumulate_grad_batches)


_lightning = _import_lightning()
check_version(_lightning.__version__)

if TYPE_CHECKING:
    Callback = object
else:
    Callback = _lightning.Callback
