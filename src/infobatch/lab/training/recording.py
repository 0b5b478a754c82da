"""Where a run of the lab records its epochs, and what it asks its task for."""

from __future__ import annotations

import shutil
from pathlib import Path

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.processes import replicas
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.registry import has_soft_targets


def record_to(config: TrainConfig, folder: RunFolder, resumed: bool) -> Path | None:
    """Find where a run records its epochs.

    Args:
        config: The run's options.
        folder: The run's folder.
        resumed: Whether it goes on from a checkpoint; otherwise epochs that a killed run left are
            removed.

    Returns:
        The folder of the epochs, or None where nothing is recorded.
    """
    if not config.record:
        return None
    if not resumed and replicas().rank == 0:
        shutil.rmtree(folder.dynamics_path, ignore_errors=True)
    return folder.dynamics_path


def signals_asked(config: TrainConfig, read: tuple[str, ...]) -> tuple[str, ...]:
    """Name what a task is asked for beside losses; one that has no margins gives none.

    Args:
        config: The run's options.
        read: What its pruner reads.
    """
    if not config.record:
        return read
    # With smoothed or mixed labels the loss does not tell the probability of a sample's own class.
    more = ("confidences",) if has_soft_targets(config) else ()
    return tuple(dict.fromkeys([*read, "margins", *more]))
