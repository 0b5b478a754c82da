"""What the commands print during and after training."""

from __future__ import annotations

import math
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.labels import labels_of
from infobatch.lab.comparison.run import Watch
from infobatch.lab.comparison.sweep import HELPER
from infobatch.lab.comparison.time_left import Pace, Workload
from infobatch.lab.comparison.variants import Arm
from infobatch.lab.interrupts import stop_on_signals
from infobatch.lab.recipes import Recipe
from infobatch.lab.runs.records import Summary
from infobatch.lab.tasks.metrics import Metric
from infobatch.lab.tasks.registry import metric_of
from infobatch.lab.training.engine import Progress as RunProgress
from infobatch.lab.training.pauses import Interrupted


def plain_console(**options: Any) -> Console:
    """A console that shows words as they are: names of folders and classes may look like markup."""
    return Console(markup=False, highlight=False, emoji=False, **options)


console = plain_console(quiet=HELPER in os.environ)


@contextmanager
def live(
    command: str, path: Path, minutes: float | None = None, again: str = ""
) -> Iterator[tuple[Progress, Callable[[], bool]]]:
    """Show progress while the block trains; Ctrl-C or SIGTERM stops it at the next step boundary.

    Args:
        command: The command's name, for the line that says how to continue.
        path: The folder in which it trains.
        minutes: Stop after this many minutes, too; None for no limit.
        again: What that line says, in place of the command with ``--resume``.

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
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:3.0f} %"),
        TimeLeftColumn(end, table_column=Column(no_wrap=True)),
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
    )
    try:
        with (
            Progress(*columns, console=console, transient=True, expand=True) as progress,
            stop_on_signals() as stopped_by,
        ):
            yield progress, lambda: bool(stopped_by()) or over()
    except Interrupted as stopped:
        again = again or shlex.join(["infobatch", command, "--out", str(path), "--resume"])
        console.print(f"Stopped at a step boundary. To go on: {again}", soft_wrap=True)
        raise SystemExit(128 + (stopped_by() or signal.SIGINT)) from stopped


def number_of_runs(comparison: Comparison) -> str:
    """Say how many runs a comparison has, and how many are finished."""
    done = sum(comparison.folder(arm, seed).finished for arm, seed in comparison.runs)
    number = len(comparison.runs)
    return f"{number} run{'s' * (number > 1)}, {done} of them finished"


class TimeLeftColumn(ProgressColumn):
    """The time left of a task, by its fields ``left``, in seconds, and ``is_at_most``.

    It counts down between two looks.

    Args:
        end: When the command stops in any case, by ``time.monotonic``.
        table_column: How it takes its place in the line.
    """

    def __init__(self, end: float = math.inf, table_column: Column | None = None) -> None:
        super().__init__(table_column)
        self._end = end
        self._told: tuple[float | None, float] = (None, 0.0)  # what was told last, and when it ends

    def render(self, task: Task) -> Text:
        """What is shown of a task now."""
        left, now = task.fields.get("left"), time.monotonic()
        if left is None:
            return Text("time left not known yet,")
        if left != self._told[0]:
            self._told = (left, min(now + left, self._end))
        at_most = "at most " if task.fields.get("is_at_most") else ""
        return Text(f"{at_most}{duration(self._told[1] - now)} left,")


def duration(seconds: float) -> str:
    """Seconds as minutes or hours: 3:05, or 2:03:05."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class RunWatch:
    """Shows how far one run is, in the live line of a terminal or else in a line for each epoch.

    Args:
        progress: Where it is shown.
        before: The fraction of the run that was trained before, in [0, 1].
    """

    def __init__(self, progress: Progress, before: float = 0.0) -> None:
        self._progress = progress
        self._pace = Pace()
        self._pace.start(before)
        self._task = progress.add_task("training", total=1)

    def __call__(self, done: RunProgress) -> None:
        """Show the run's progress after an epoch."""
        text, left = describe(done), self._pace.left(done.fraction, 1.0)
        self._progress.update(self._task, completed=done.fraction, description=text, left=left)
        if not console.is_terminal:
            console.print(text)


class ComparisonWatch:
    """Shows in one live line how far comparisons are, and prints a line for each finished run.

    Args:
        comparisons: The comparisons, whose folders exist.
        progress: Where it is shown.
        names_them: Whether a line begins with the name of its comparison's folder.
    """

    def __init__(
        self, comparisons: Sequence[Comparison], progress: Progress, names_them: bool = False
    ) -> None:
        self._progress = progress
        self._names_them = names_them
        self._workload = None if console.quiet else Workload(comparisons)
        self._labels = {
            each.path: dict(zip(each.arms, labels_of(each.arms, each.config), strict=True))
            for each in comparisons
        }
        self._task = progress.add_task("training", total=1)
        self._show("training")

    def of(self, comparison: Comparison) -> Watch:
        """What is called with the progress of a comparison's runs."""
        return partial(self._see, comparison)

    def _see(self, comparison: Comparison, arm: Arm, seed: int, done: RunProgress | None) -> None:
        """Show one run's progress, or print its result."""
        if self._workload is None:  # another process tells, and this one may not see its files
            return
        folder = comparison.folder(arm, seed)
        labels = self._labels[comparison.path]
        label, width = labels[arm], max(map(len, labels.values()))
        title = f"{comparison.path.name}: " if self._names_them else ""
        if done is not None:
            metrics = done.metrics
            self._workload.see(folder.path, metrics.samples_so_far / metrics.num_samples)
            self._show(f"seed {seed}, {label}: {describe(done)}")
            return
        metric = metric_of(comparison.config)
        line = f"{title}seed {seed}  {label:{width}}  {one_line(folder.summary(), metric)}"
        self._progress.console.print(line, soft_wrap=True)
        self._workload.look()
        self._show(f"seed {seed}, {label}: finished")

    def _show(self, text: str) -> None:
        work = self._workload
        if work is None:
            return
        text = f"{work.num_finished} of {work.num_runs} runs, {text}"
        self._progress.update(
            self._task,
            completed=work.share,
            description=text,
            left=work.left,
            is_at_most=work.is_at_most,
        )


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
    console.print(f"{recipe.summary} {recipe.notes}\n")
    options = recipe.config().to_arguments()
    console.print(shlex.join(["infobatch", "train", *options]), soft_wrap=True)
    if recipe.published:
        console.print("\nReported by others:")
    for published in recipe.published:
        saved = "" if published.saved is None else f", {published.saved:g} % saved"
        line = f"  {published.source}, {published.label}: {published.accuracy:.2f} %{saved}"
        console.print(line)


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
    console.print(text)
