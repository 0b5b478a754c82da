"""Training the runs of a comparison, alone or with other processes that share the work."""

from __future__ import annotations

import math
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

MARGIN = 1.05
"""By how much longer than the longest before it a seed may take."""

Watch = Callable[[Arm, int, Progress | None], None]
"""Called with a run's arm and seed, and how far it is; None when it is finished."""


class SeedClock:
    """Says whether all runs of a further seed of a comparison fit into the time that is left.

    Args:
        end: When the time is over, by ``time.monotonic``; by default never.
        num_processes: How many processes share the work.
    """

    def __init__(self, end: float = math.inf, num_processes: int = 1) -> None:
        self._end = end
        self._num_processes = num_processes
        self._began: dict[int, float] = {}
        self._longest = 0.0

    def begin(self, seed: int) -> None:
        """Note that a seed has begun, unless it had already."""
        self._began.setdefault(seed, time.monotonic())

    def finish(self, seed: int, seconds: float) -> None:
        """Note that the last run of a seed is finished.

        Args:
            seed: The seed.
            seconds: What its runs took in all, also those that were trained before.
        """
        here = time.monotonic() - self._began[seed]
        self._longest = max(self._longest, here, seconds / self._num_processes)

    def has_time_for(self, seed: int) -> bool:
        """Whether a seed has begun, or would be finished in time if it took as long as the longest."""
        return seed in self._began or time.monotonic() + MARGIN * self._longest <= self._end


def run_comparison(
    comparison: Comparison,
    data: Data,
    watch: Watch,
    should_stop: Callable[[], bool],
    clock: SeedClock | None = None,
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
        clock: Says which seeds are begun; by default all are.

    Raises:
        Interrupted: If ``should_stop`` returned true.
        ValueError: If a folder holds a run with other options.
    """
    clock = clock or SeedClock()
    waiting = [(arm, seed, comparison.folder(arm, seed)) for arm, seed in comparison.runs]
    while waiting:
        in_time = agree(partial(_in_time, clock, {seed for _, seed, _ in waiting}))
        waiting = [each for each in waiting if each[1] in in_time]
        if not waiting:
            return
        place = agree(partial(_claim, comparison, waiting))
        if place is None:  # others are at work on all that can be done now
            if agree(should_stop):
                raise Interrupted(str(comparison.path))
            time.sleep(SECONDS_BETWEEN_CHECKS)
            continue
        arm, seed, folder = waiting.pop(place)
        clock.begin(seed)
        try:
            config = agree(partial(_prepare, comparison, arm, seed, folder, len(data.train)))
            if config is not None:
                train(config, data, folder, partial(watch, arm, seed), should_stop)
        finally:  # an error that is kept, as in a notebook, would keep the lock
            folder.release()
        watch(arm, seed, None)
        if all(seed != other for _, other, _ in waiting):
            clock.finish(seed, agree(partial(_seconds_of, comparison, seed)))


def _in_time(clock: SeedClock, seeds: set[int]) -> set[int]:
    """Those of the seeds that have begun, or that there is time for."""
    return {seed for seed in seeds if clock.has_time_for(seed)}


def _seconds_of(comparison: Comparison, seed: int) -> float:
    """What the runs of a seed took, as recorded when they were finished."""
    summaries = [comparison.folder(arm, seed).summary() for arm in comparison.arms]
    return sum(summary.seconds + summary.evaluation_seconds for summary in summaries)


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
