"""Training the runs of a comparison, alone or with other processes that share the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.variants import Arm
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.processes import agree
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.engine import Progress
from infobatch.lab.training.pauses import Interrupted
from infobatch.lab.training.train import train

SECONDS_BETWEEN_CHECKS = 1.0

Watch = Callable[[Arm, int, Progress | None], None]
"""Called with a run's arm and seed, and how far it is; None when it is finished."""


def run_comparison(
    comparison: Comparison, data: Data, watch: Watch, should_stop: Callable[[], bool]
) -> None:
    """Train every run that is not finished.

    Other processes may do the same in the same folder at the same time: a run belongs to the process
    that locked it, and a lock ends with its process.

    Args:
        comparison: What to train; its folder exists.
        data: The data of its runs.
        watch: Called with the progress of each run.
        should_stop: Asked at every step; if it returns true, the run in progress writes a checkpoint
            and stops.

    Raises:
        Interrupted: If ``should_stop`` returned true.
        ValueError: If a folder holds a run with other options.
    """
    waiting = [(arm, seed, comparison.folder(arm, seed)) for arm, seed in comparison.runs]
    while waiting:
        place = agree(partial(_claim, comparison, waiting))
        if place is None:  # others are at work on all that can be done now
            if agree(should_stop):
                raise Interrupted(str(comparison.path))
            time.sleep(SECONDS_BETWEEN_CHECKS)
            continue
        arm, seed, folder = waiting.pop(place)
        config = agree(partial(_prepare, comparison, arm, seed, folder, len(data.train)))
        if config is not None:
            train(config, data, folder, partial(watch, arm, seed), should_stop)
        agree(folder.release)
        watch(arm, seed, None)


def _claim(comparison: Comparison, waiting: Sequence[tuple[Arm, int, RunFolder]]) -> int | None:
    """The place of the first run that is finished, or that this process has locked to train it."""
    for place, (arm, seed, folder) in enumerate(waiting):
        if folder.finished or (comparison.is_ready(arm, seed) and folder.claim()):
            return place
    return None


def _prepare(
    comparison: Comparison, arm: Arm, seed: int, folder: RunFolder, num_samples: int
) -> TrainConfig | None:
    """Make the run's folder, or check that it is this run's; its options, or None if it is finished."""
    if folder.finished and not comparison.is_ready(arm, seed):
        return None
    config = comparison.run_config(arm, seed, num_samples)
    if folder.exists:
        folder.require(config)
    else:
        folder.create(config)
    return None if folder.finished else config
