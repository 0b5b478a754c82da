"""Finished runs as data: groups of seeds, their means, paired differences and the verdict."""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infobatch.lab.compare import ARMS, FEWER, FEWER_SCALED, FULL, PRUNED, RANDOM, Comparison
from infobatch.lab.config import TrainConfig
from infobatch.lab.runs import EpochMetrics, RunFolder, Summary

LABELS = {
    FULL: "full data",
    FEWER: "fewer epochs",
    FEWER_SCALED: "fewer epochs lr↑",
    RANDOM: "random pruning",
}
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Run:
    """One finished run."""

    config: TrainConfig
    summary: Summary
    metrics: Sequence[EpochMetrics]


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences in accuracy, in points, and its 95 % t interval over seeds."""

    mean: float
    low: float
    high: float
    num_pairs: int

    @classmethod
    def of(cls, ours: dict[int, Run], theirs: dict[int, Run]) -> Difference | None:
        """Ours minus theirs, over the seeds that both have; None without a common seed."""
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            return None
        pairs = [ours[s].summary.accuracy - theirs[s].summary.accuracy for s in seeds]
        mean = statistics.fmean(pairs)
        if len(pairs) == 1:
            return cls(mean, -math.inf, math.inf, 1)
        from scipy import stats

        quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(pairs) - 1)
        half = float(quantile) * statistics.stdev(pairs) / math.sqrt(len(pairs))
        return cls(mean, mean - half, mean + half, len(pairs))

    @property
    def short(self) -> str:
        """For a cell of a table."""
        return str(self).replace(" to ", "…")

    def __str__(self) -> str:
        if self.num_pairs == 1:
            return f"{self.mean:+.2f} (one seed)"
        return f"{self.mean:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


@dataclass(frozen=True)
class Arm:
    """Runs that differ in nothing but their seed, keyed by it."""

    name: str
    label: str
    runs: dict[int, Run]

    @property
    def accuracies(self) -> list[float]:
        return [run.summary.accuracy for run in self.runs.values()]

    @property
    def accuracy(self) -> float:
        return statistics.fmean(self.accuracies)

    @property
    def deviation(self) -> float:
        """Sample standard deviation over seeds; NaN for a single one."""
        return statistics.stdev(self.accuracies) if len(self.runs) > 1 else math.nan

    def mean(self, field: str) -> float:
        return statistics.fmean(getattr(run.summary, field) for run in self.runs.values())


@dataclass(frozen=True)
class Row:
    """One line of the table; ``saved``: samples left out, relative to full data."""

    label: str
    accuracy: float
    deviation: float
    to_full: Difference | None
    num_trained: float
    num_steps: float
    seconds: float
    saved: float


@dataclass(frozen=True)
class Results:
    """All that a report shows.

    ``full`` is the arm that others are compared with, if there is one; ``commands`` repeat it all.
    """

    title: str
    arms: Sequence[Arm]
    full: Arm | None
    margin: float
    commands: Sequence[str]
    notes: Sequence[str] = ()

    def arm(self, name: str) -> Arm | None:
        """The arm of that name, if there is exactly one."""
        named = [arm for arm in self.arms if arm.name == name]
        return named[0] if len(named) == 1 else None

    def rows(self) -> list[Row]:
        return [self._row(arm) for arm in self.arms]

    def verdict(self) -> str:
        """The comparison in plain words."""
        ours = self.arm(PRUNED)
        if self.full is None or ours is None:
            return ""
        difference = Difference.of(ours.runs, self.full.runs)
        if difference is None:
            return "No seed was trained both on full data and pruned: nothing to compare."
        saved = self._row(ours).saved
        judged = judge(difference, self.margin)
        detail = f"{saved:.1%} of the samples saved, accuracy against full data {difference} points"
        if difference.num_pairs > 1:
            scope = (
                f"The interval (95 %) covers the {difference.num_pairs} seeds, not the choice of test "
                f"images; lossless means above -{self.margin:g} points."
            )
        else:
            scope = "One seed gives no interval."
        return " ".join([f"{judged}: {detail}.", *self._rivals(ours), scope])

    def _rivals(self, ours: Arm) -> list[str]:
        """A sentence on what a user would do instead, at the same cost."""
        phrases = []
        for arm in self.arms:
            difference = Difference.of(ours.runs, arm.runs)
            if arm.name in (FEWER, FEWER_SCALED, RANDOM) and difference is not None:
                if difference.low > 0:
                    phrases.append(f"ahead of {arm.label}")
                elif difference.high < 0:
                    phrases.append(f"behind {arm.label}")
                else:
                    phrases.append(f"not clearly different from {arm.label}")
        return [f"At the same cost it is {' and '.join(phrases)}."] if phrases else []

    def controls(self) -> list[str]:
        """The pruned arm against what a user would do instead at the same cost."""
        ours = self.arm(PRUNED)
        named = [arm for arm in self.arms if arm.name in (FEWER, FEWER_SCALED, RANDOM)]
        if ours is None or not named:
            return []
        cost = "At the same cost, the samples that each seed's pruned run trained on:"
        differences = [(arm.label, Difference.of(ours.runs, arm.runs)) for arm in named]
        return [cost, *(f"  {ours.label} against {label}: {d} points" for label, d in differences)]

    def _row(self, arm: Arm) -> Row:
        reference = self.full.mean("num_trained") if self.full else arm.mean("num_full")
        return Row(
            label=arm.label,
            accuracy=arm.accuracy,
            deviation=arm.deviation,
            to_full=Difference.of(arm.runs, self.full.runs) if self.full not in (None, arm) else None,
            num_trained=arm.mean("num_trained"),
            num_steps=arm.mean("num_steps"),
            seconds=arm.mean("seconds"),
            saved=1 - arm.mean("num_trained") / reference,
        )


def judge(difference: Difference, margin: float) -> str:
    """``lossless`` only if the whole interval lies above -margin."""
    if difference.num_pairs < 2:
        return "too few seeds to say"
    if difference.low > -margin:
        return "lossless"
    return "not lossless" if difference.high < -margin else "too few seeds to say"


def read_comparison(path: Path) -> Results:
    """The finished runs of a comparison's folder."""
    comparison = Comparison.load(path)
    folders = {name: {seed: comparison.folder(name, seed) for seed in comparison.seeds} for name in ARMS}
    labels = {**LABELS, PRUNED: _policy_label(comparison.config)}
    arms = [
        Arm(name, labels[name], {s: read_run(f) for s, f in seeds.items() if f.finished})
        for name, seeds in folders.items()
    ]
    trained = {arm.name: arm for arm in arms if arm.runs}
    notes = []
    if FEWER in trained and FEWER_SCALED in trained:
        worse = min(trained[FEWER], trained[FEWER_SCALED], key=lambda arm: arm.accuracy)
        del trained[worse.name]
        notes.append(
            "Fewer epochs was trained at the same peak learning rate and at one scaled by N/|S| (lr↑); "
            f"the better is shown, the other reached {worse.accuracy:.2f} %."
        )
    return Results(
        title=_title(comparison.config),
        arms=list(trained.values()),
        full=trained.get(FULL),
        margin=comparison.margin,
        commands=[comparison.command()],
        notes=notes,
    )


def read_runs(paths: Sequence[Path]) -> Results:
    """Any finished runs, those that differ only in their seed taken together."""
    groups: dict[str, Arm] = {}
    for path in paths:
        run = read_run(RunFolder(path))
        options = {**run.config.to_json(), "seed": None, "data_dir": None}
        key = json.dumps(options, sort_keys=True)
        name = FULL if run.config.policy == "none" else PRUNED
        arm = groups.setdefault(key, Arm(name, _describe(run.config), {}))
        if run.config.seed in arm.runs:
            raise ValueError(
                f"{path} and another folder hold the same run (seed {run.config.seed}, {arm.label}); "
                "give each once"
            )
        arm.runs[run.config.seed] = run
    arms = list(groups.values())
    configs = [next(iter(arm.runs.values())).config for arm in arms]
    if len({config.data for config in configs}) > 1:
        names = ", ".join(sorted({config.data for config in configs}))
        raise ValueError(f"these runs are on different data sets ({names}); report each set apart")
    longest = max((arm for arm in arms if arm.name == FULL), key=_length, default=None)
    commands = [
        shlex.join(["infobatch", "train", *run.config.to_arguments()])
        for arm in arms
        for run in arm.runs.values()
    ]
    return Results(_title(configs[0]), arms, longest, margin=0.5, commands=commands)


def read_run(folder: RunFolder) -> Run:
    return Run(folder.config(), folder.summary(), folder.metrics())


def _length(arm: Arm) -> float:
    return max(run.config.epochs for run in arm.runs.values())


def _title(config: TrainConfig) -> str:
    return f"{config.model} on {config.data}, {config.epochs:g} epochs, batch {config.batch_size}"


def _policy_label(config: TrainConfig) -> str:
    if config.policy == "none":
        return LABELS[FULL]
    label = config.policy.replace("-", " ").replace("infobatch", "InfoBatch")
    if config.policy in ("infobatch", "random"):
        label += f" r={config.prune_ratio:g}"
    return label + (f", target {config.target:g}" if isinstance(config.target, float) else "")


def _describe(config: TrainConfig) -> str:
    return f"{_policy_label(config)}, {config.epochs:g} epochs, lr {config.lr:g}"
