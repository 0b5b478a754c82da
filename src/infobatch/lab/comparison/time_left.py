"""How long the runs of comparisons will take, told from those that were trained so far.

Work is counted in passes over the training set: what a run costs in samples, over their number. What
one process does and what others do in the same folders counts alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.variants import FULL, PRUNED, Arm

SECONDS_BETWEEN_LOOKS = 1.0
"""How long what was read of other processes' runs is taken for new."""


class Pace:
    """Tells the time that work will take from the time that it took.

    Args:
        clock: Tells the time, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._before: float | None = None

    def start(self, done: float) -> None:
        """Note what was done before; the time runs from now."""
        self._before, self._began = done, self._clock()

    def left(self, done: float, total: float) -> float | None:
        """The seconds that the rest will take at the pace so far.

        Args:
            done: What is done, that of earlier times included.
            total: What there is to do in all.

        Returns:
            The seconds; None while nothing was done, so that nobody knows.
        """
        new = done - (self._before or 0.0)
        if total <= done:
            return 0.0
        return None if new <= 0 else (total - done) * (self._clock() - self._began) / new


class Workload:
    """The work of comparisons: what is done of it, and how long the rest takes.

    Args:
        comparisons: The comparisons, whose folders exist.
        clock: Tells the time, in seconds.
    """

    def __init__(
        self, comparisons: Sequence[Comparison], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._runs = [(each, arm, seed) for each in comparisons for arm, seed in each.runs]
        self._clock = clock
        self._finished: dict[Path, float] = {}  # passes, by the run's folder
        self._under_way: dict[Path, float] = {}
        self._looked = -math.inf
        self._pace = Pace(clock)
        self.look()
        self._pace.start(self._done)

    @property
    def num_runs(self) -> int:
        """The number of all runs."""
        return len(self._runs)

    @property
    def num_finished(self) -> int:
        """The number of runs that are finished, by whichever process."""
        return len(self._finished)

    @property
    def share(self) -> float:
        """The share of the work that is done, in [0, 1]."""
        return min(1.0, self._done / self._total)

    @property
    def left(self) -> float | None:
        """The seconds that are left at the pace so far; None while nobody knows."""
        return self._pace.left(self._done, self._total)

    @property
    def is_at_most(self) -> bool:
        """Whether a run is left of which it is not known what pruning saves: it may take less."""
        return any(
            self._known(comparison, arm, seed) is None
            for comparison, arm, seed in self._runs
            if arm.kind != FULL
        )

    def see(self, folder: Path, passes: float) -> None:
        """Note how far a run of this process is, and look at those of others.

        Args:
            folder: Its folder.
            passes: What it has trained, in passes over the training set.
        """
        self._under_way[folder] = passes
        if self._clock() - self._looked >= SECONDS_BETWEEN_LOOKS:
            self.look()

    def look(self) -> None:
        """Read what is finished or under way, in whichever process."""
        self._looked = self._clock()
        for comparison, arm, seed in self._runs:
            folder = comparison.folder(arm, seed)
            if folder.path in self._finished or not folder.exists:
                continue
            metrics = folder.metrics()
            if folder.finished:
                self._finished[folder.path] = folder.summary().cost / metrics[0].num_samples
                self._under_way.pop(folder.path, None)
            elif metrics:
                trained = sum(each.cost for each in metrics) / metrics[0].num_samples
                self._under_way[folder.path] = max(trained, self._under_way.get(folder.path, 0.0))

    @property
    def _done(self) -> float:
        return sum(self._finished.values()) + sum(self._under_way.values())

    @property
    def _total(self) -> float:
        return sum(self._expected(*run) for run in self._runs)

    def _expected(self, comparison: Comparison, arm: Arm, seed: int) -> float:
        """What a run costs, as far as it is known: at most what full data would."""
        known = self._known(comparison, arm, seed)
        planned = comparison.config.epochs if known is None else known
        return max(planned, self._under_way.get(comparison.folder(arm, seed).path, 0.0))

    def _known(self, comparison: Comparison, arm: Arm, seed: int) -> float | None:
        """What a run cost, or costs as others of its cost did, or by its target; None if none says."""
        path = comparison.folder(arm, seed).path
        if path in self._finished:
            return self._finished[path]
        alike = arm if arm.kind in (FULL, PRUNED) else Arm(PRUNED, arm.variant)
        others = [comparison.folder(alike, other).path for other in comparison.seeds]
        costs = [self._finished[other] for other in others if other in self._finished]
        if costs:
            return fmean(costs)
        if arm.variant is None or arm.variant.target is None:
            return comparison.config.epochs if arm.kind == FULL else None
        return comparison.config.epochs * (1 - arm.variant.target)
