"""What the commands print during and after training."""

from __future__ import annotations

import math
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.sweep import HELPER
from infobatch.lab.comparison.variants import Arm
from infobatch.lab.interrupts import stop_on_signals
from infobatch.lab.recipes import Recipe
from infobatch.lab.runs.records import Summary
from infobatch.lab.tasks.metrics import Metric
from infobatch.lab.tasks.registry import metric_of
from infobatch.lab.training.engine import Progress as RunProgress
from infobatch.lab.training.pauses import Interrupted


def make_console(**options: Any) -> Console:
    """Make a console that prints what it is given: names and paths may have brackets, as markup has."""
    return Console(markup=False, **options)


console = make_console(quiet=HELPER in os.environ)


@contextmanager
def live(
    command: str, path: Path, minutes: float | None = None
) -> Iterator[tuple[Progress, Callable[[], bool]]]:
    """Show progress while the block trains; Ctrl-C or SIGTERM stops it at the next step boundary.

    Args:
        command: The command's name, for the line that says how to continue.
        path: The folder in which it trains.
        minutes: Stop after this many minutes, too; None for no limit.

    Yields:
        The progress bars, and the function that training asks whether it should stop.

    Raises:
        SystemExit: With status 130 if training was stopped, and 143 if SIGTERM did that.
    """
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    parent = os.getppid()

    def over() -> bool:
        # A sweep's helper ends with the process that started it, even if that was killed.
        return time.monotonic() > end or (HELPER in os.environ and os.getppid() != parent)

    columns = (
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(compact=True),
        TextColumn("left, {task.description}", markup=False),
    )
    try:
        with (
            Progress(*columns, console=console, transient=True) as progress,
            stop_on_signals() as stopped_by,
        ):
            yield progress, lambda: bool(stopped_by()) or over()
    except Interrupted as stopped:
        again = shlex.join(["infobatch", command, "--out", str(path), "--resume"])
        if command == "sweep":
            again = "the same command"
        console.print(f"Stopped at a step boundary. To go on: {again}", soft_wrap=True)
        raise SystemExit(128 + (stopped_by() or signal.SIGINT)) from stopped


class ComparisonWatch:
    """Shows how far a comparison is, and prints a line for each finished run."""

    def __init__(self, comparison: Comparison, progress: Progress, title: str = "") -> None:
        """Begin with no run finished.

        Args:
            comparison: The comparison.
            progress: Where it is shown.
            title: What each line begins with; empty for nothing.
        """
        self._comparison = comparison
        self._progress = progress
        self._title = f"{title}: " if title else ""
        self._num_done = 0
        self._task = progress.add_task(f"{self._title}training", total=len(comparison.runs))

    def __call__(self, arm: Arm, seed: int, done: RunProgress | None) -> None:
        """Show one run's progress, or print its result.

        Args:
            arm: The run's arm.
            seed: The run's seed.
            done: How far the run is; None if it is finished.
        """
        if done is not None:
            text = f"{self._title}seed {seed}, {arm.name}: {describe(done)}"
            now = self._num_done + done.fraction
            self._progress.update(self._task, completed=now, description=text)
            return
        if console.quiet:  # another process tells, and this one may not see its files
            return
        summary = self._comparison.folder(arm, seed).summary()
        self._num_done += 1
        self._progress.update(self._task, completed=self._num_done)
        metric = metric_of(self._comparison.config)
        line = f"{self._title}seed {seed}  {arm.name:30}  {one_line(summary, metric)}"
        self._progress.console.print(line, highlight=False, soft_wrap=True)


def describe(done: RunProgress) -> str:
    """One line on a run's last epoch."""
    metrics = done.metrics
    kept = metrics.num_kept / metrics.num_samples
    tested = "" if metrics.result is None else f", test {done.metric.named(metrics.result)}"
    noise = "" if metrics.noise is None else f", noise {metrics.noise:.2f}"
    probed = "" if metrics.noise_ratio is None else f", probed noise {metrics.noise_ratio:.2f}"
    return f"epoch {metrics.epoch + 1}, {kept:.0%} kept{tested}{noise}{probed}"


def one_line(summary: Summary, metric: Metric) -> str:
    """One line on a finished run: its result and what it took."""
    return (
        f"{metric.named(summary.result)}  {summary.num_trained:,} samples  {summary.num_steps:,} steps  "
        f"{summary.seconds:.1f} s"
    )


def print_recipe(recipe: Recipe) -> None:
    """Print a recipe's notes, the command with all of its options, and what others report."""
    console.print(f"{recipe.summary} {recipe.notes}\n", highlight=False)
    options = recipe.config().to_arguments()
    console.print(shlex.join(["infobatch", "train", *options]), highlight=False, soft_wrap=True)
    if recipe.published:
        console.print("\nReported by others:")
    for published in recipe.published:
        saved = "" if published.saved is None else f", {published.saved:g} % saved"
        line = f"  {published.source}, {published.label}: {published.accuracy:.2f} %{saved}"
        console.print(line, highlight=False)


def print_summary(summary: Summary, metric: Metric, budget: float | None = None) -> None:
    """Print the result of one run, what it left out, and its noise with the budget of it, if any."""
    text = f"{one_line(summary, metric)}  {summary.saved:.1%} left out"
    if summary.cost > summary.num_trained:
        text += (
            f"; with what it computed besides, it cost as much as training on {summary.cost:,.0f}: "
            f"{1 - summary.cost / summary.num_full:.1%} saved"
        )
    if summary.mean_noise is not None:
        asked = "" if budget is None else f", where {budget:g} was asked for"
        text += (
            f"  noise {summary.mean_noise:.2f} in pruned epochs, {summary.most_noise:.2f} at most{asked}"
        )
    if summary.num_nonfinite:
        text += f"  {summary.num_nonfinite:,} losses or signals were NaN or infinite"
    console.print(text, highlight=False)
