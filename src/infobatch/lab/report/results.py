"""Finished runs as data: groups of seeds, their means, paired differences and the verdict."""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from infobatch.lab.compare import (
    CONTROLS,
    FEWER,
    FEWER_SCALED,
    FULL,
    PRUNED,
    RANDOM,
    Arm,
    Comparison,
    Variant,
)
from infobatch.lab.config import TrainConfig
from infobatch.lab.recipes import RECIPES, Published
from infobatch.lab.runs import WHERE, EpochMetrics, RunFolder, Summary
from infobatch.policies import BELOW_MEAN, POLICIES, BiasedPolicy, has_prune_ratio

LABELS = {
    FULL: "full data",
    FEWER: "fewer epochs",
    FEWER_SCALED: "fewer epochs lr↑",
    RANDOM: "random pruning",
}
NAMES = {
    "infobatch": "InfoBatch",
    "neyman": "Neyman",
    "bls": "BLS",
    "rs2": "RS2",
    "ucb": "UCB",
    "seta": "SeTa",
    "order-dp": "OrderDP",
    "repb": "RePB",
}
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Run:
    """One finished run."""

    config: TrainConfig
    summary: Summary
    metrics: Sequence[EpochMetrics]


def half_interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % t interval of the mean of ``values``; NaN for a single one."""
    if len(values) < 2:
        return math.nan
    from scipy import stats

    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return float(quantile) * statistics.stdev(values) / math.sqrt(len(values))


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
        half = half_interval(pairs)
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
class ArmRuns:
    """The finished runs of an arm, keyed by their seed."""

    arm: Arm
    label: str
    runs: dict[int, Run]

    @property
    def kind(self) -> str:
        return self.arm.kind

    @property
    def policy(self) -> str:
        return self.arm.variant.policy if self.arm.variant else "none"

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

    @property
    def half_interval(self) -> float:
        """Half the width of the mean accuracy's 95 % t interval over seeds; NaN for a single one."""
        return half_interval(self.accuracies)

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
class PublishedRow:
    """What others report beside what we measured; ``ours``: None where there is no counterpart."""

    published: Published
    ours: Row | None
    num_seeds: int


@dataclass(frozen=True)
class Results:
    """All that a report shows.

    ``full`` is the arm that others are compared with, if there is one; ``commands`` repeat it all;
    ``published`` is what others report for the same experiment.
    """

    title: str
    arms: Sequence[ArmRuns]
    full: ArmRuns | None
    margin: float
    commands: Sequence[str]
    notes: Sequence[str] = ()
    published: Sequence[Published] = ()

    @property
    def pruned(self) -> list[ArmRuns]:
        return [arm for arm in self.arms if arm.kind == PRUNED]

    def rows(self) -> list[Row]:
        return [self._row(arm) for arm in self.arms]

    def published_rows(self) -> list[PublishedRow]:
        """What others report, with ours in the next column; none where nothing of ours compares."""
        ours = {arm.arm.variant.name if arm.arm.variant else FULL: arm for arm in self.pruned}
        if self.full is not None:
            ours[FULL] = self.full
        rows = []
        for published in self.published:
            arm = ours.get(published.arm)
            row = self._row(arm) if arm else None
            rows.append(PublishedRow(published, row, len(arm.runs) if arm else 0))
        return rows if any(row.ours for row in rows) else []

    @property
    def is_contest(self) -> bool:
        """Whether several policies were brought to the same cost."""
        return sum(arm.arm.variant.target is not None for arm in self.pruned if arm.arm.variant) > 1

    def verdict(self) -> str:
        """The comparison in plain words, a line for each way of pruning."""
        if self.full is None or self.is_contest:
            return ""
        lines = [self._verdict_on(arm, self.full) for arm in self.pruned]
        if len(lines) > 1:
            lines = [f"{arm.label}: {line}" for arm, line in zip(self.pruned, lines, strict=True)]
        return "\n".join([*lines, *self._scope()])

    def _verdict_on(self, ours: ArmRuns, full: ArmRuns) -> str:
        difference = Difference.of(ours.runs, full.runs)
        if difference is None:
            return "No seed was trained both on full data and pruned: nothing to compare."
        judged = judge(difference, self.margin)
        if ours.mean("num_trained") == ours.mean("num_full"):
            return "Nothing was pruned: the first epoch is warm-up, and the last ones anneal."
        saved = f"{self._row(ours).saved:.1%} of the samples saved"
        detail = f"{saved}, accuracy against full data {difference} points"
        return " ".join([f"{judged}: {detail}.", *self._rivals(ours)])

    def _scope(self) -> list[str]:
        counts = [len(arm.runs) for arm in self.pruned]
        if not counts:
            return []
        if max(counts) == 1:
            return ["One seed gives no interval."]
        return [
            "± is the standard deviation over seeds, in parentheses is the 95 % interval of the mean "
            f"paired difference: it covers the {max(counts)} seeds, not the choice of test images. "
            f"Lossless means above -{self.margin:g} points."
        ]

    def _rivals(self, ours: ArmRuns) -> list[str]:
        """A sentence on what a user would do instead, at the same cost."""
        phrases = []
        for arm in self.controls_of(ours):
            difference = Difference.of(ours.runs, arm.runs)
            if difference is not None:
                if difference.low > 0:
                    phrases.append(f"ahead of {arm.label}")
                elif difference.high < 0:
                    phrases.append(f"behind {arm.label}")
                else:
                    phrases.append(f"not clearly different from {arm.label}")
        return [f"At the same cost it is {' and '.join(phrases)}."] if phrases else []

    def controls(self) -> list[str]:
        """Each pruned arm against what a user would do instead at the same cost."""
        lines = []
        for ours in self.pruned:
            for arm in self.controls_of(ours):
                difference = Difference.of(ours.runs, arm.runs)
                lines.append(f"  {ours.label} against {arm.label}: {difference} points")
        cost = "At the same cost, the samples that each seed's pruned run trained on:"
        return [cost, *lines] if lines else []

    def controls_of(self, ours: ArmRuns) -> list[ArmRuns]:
        """What a user would do instead, at the cost of a pruned arm."""
        return [arm for arm in self._of_cost(ours) if arm.kind in CONTROLS]

    def alike(self, ours: ArmRuns) -> list[ArmRuns]:
        """The pruned arms of the same cost."""
        return [arm for arm in self._of_cost(ours) if arm.kind == PRUNED]

    def _of_cost(self, ours: ArmRuns) -> list[ArmRuns]:
        variant = ours.arm.variant
        assert variant is not None
        return [arm for arm in self.arms if variant.costs_as(arm.arm.variant)]

    def cost(self, arm: ArmRuns) -> float:
        """The samples it trained on, as a share of full data's."""
        reference = self.full.mean("num_trained") if self.full else arm.mean("num_full")
        return arm.mean("num_trained") / reference

    def _row(self, arm: ArmRuns) -> Row:
        of_one = arm.kind in CONTROLS and len(self.pruned) > 1
        return Row(
            label=f"– {arm.label}" if of_one else arm.label,
            accuracy=arm.accuracy,
            deviation=arm.deviation,
            to_full=Difference.of(arm.runs, self.full.runs) if self.full not in (None, arm) else None,
            num_trained=arm.mean("num_trained"),
            num_steps=arm.mean("num_steps"),
            seconds=arm.mean("seconds"),
            saved=1 - self.cost(arm),
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
    arms, num_missing = [], 0
    for arm in comparison.arms:
        folders = {seed: comparison.folder(arm, seed) for seed in comparison.seeds}
        runs = {seed: read_run(folder) for seed, folder in folders.items() if folder.finished}
        num_missing += len(folders) - len(runs)
        if runs:
            arms.append(ArmRuns(arm, _arm_label(arm, comparison.config), runs))
    arms, notes = _with_better_rates(arms)
    published, differs = _published(comparison.config)
    if num_missing:
        notes.append(f"Unfinished: {num_missing} of the {len(comparison.runs)} runs are missing.")
    return Results(
        title=_title(comparison.config),
        arms=arms,
        full=next((arm for arm in arms if arm.kind == FULL), None),
        margin=comparison.margin,
        commands=[comparison.command()],
        notes=[*notes, *differs],
        published=published,
    )


def _published(config: TrainConfig) -> tuple[Sequence[Published], list[str]]:
    """What others report for the very experiment of a recipe; else a note on how this one differs."""
    recipe = RECIPES.get(config.recipe)
    if recipe is None or not recipe.published:
        return (), []
    where = (*WHERE, "seed", "policy", "prune_ratio")
    changed = [name for name in config.differences(recipe.config()) if name not in where]
    if not changed:
        return recipe.published, []
    names = ", ".join("--" + name.replace("_", "-") for name in changed)
    return (), [f"Not beside what others report: it differs from the recipe in {names}."]


def _with_better_rates(arms: Sequence[ArmRuns]) -> tuple[list[ArmRuns], list[str]]:
    """Of the two learning rates that fewer epochs were trained at, the better one's arm."""
    kept, others = list(arms), []
    for same in (arm for arm in arms if arm.kind == FEWER):
        for scaled in arms:
            if scaled.kind == FEWER_SCALED and scaled.arm.variant == same.arm.variant:
                worse = min(same, scaled, key=lambda arm: arm.accuracy)
                kept.remove(worse)
                others.append(f"{worse.accuracy:.2f} %")
    if not others:
        return kept, []
    return kept, [
        "Fewer epochs was trained at the same peak learning rate and at one scaled by N/|S| (lr↑); the "
        f"better is shown, the other reached {', '.join(others)}."
    ]


def read_runs(paths: Sequence[Path]) -> Results:
    """Any finished runs, those that differ only in their seed taken together."""
    groups: dict[str, ArmRuns] = {}
    for path in paths:
        run = read_run(RunFolder(path))
        options = {**run.config.to_json(), "seed": None, "data_dir": None}
        key = json.dumps(options, sort_keys=True)
        target = run.config.target
        target = target if isinstance(target, float) else None
        variant = Variant(run.config.policy, run.config.prune_ratio, target)
        kind = Arm(FULL) if run.config.policy == "none" else Arm(PRUNED, variant)
        arm = groups.setdefault(key, ArmRuns(kind, _describe(run.config), {}))
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
    longest = max((arm for arm in arms if arm.kind == FULL), key=_length, default=None)
    commands = [
        shlex.join(["infobatch", "train", *run.config.to_arguments()])
        for arm in arms
        for run in arm.runs.values()
    ]
    return Results(_title(configs[0]), arms, longest, margin=0.5, commands=commands)


def read_run(folder: RunFolder) -> Run:
    return Run(folder.config(), folder.summary(), folder.metrics())


def _length(arm: ArmRuns) -> float:
    return max(run.config.epochs for run in arm.runs.values())


def _title(config: TrainConfig) -> str:
    data = config.data
    if config.train_samples:
        data += f" ({config.train_samples:,} samples)"
    if config.held_out:
        data += f", evaluated on {100 * config.held_out:g} % held out of it"
    return f"{config.model} on {data}, {config.epochs:g} epochs, batch {config.batch_size}"


def _arm_label(arm: Arm, config: TrainConfig) -> str:
    variant = arm.variant
    if variant is None:
        return LABELS[arm.kind]
    target = config.target if variant.target is None else variant.target
    if arm.kind == PRUNED:
        ratio = variant.prune_ratio
        return _policy_label(replace(config, policy=variant.policy, prune_ratio=ratio, target=target))
    return LABELS[arm.kind] + ("" if variant.target is None else f", {100 * variant.target:g} % saved")


def _policy_label(config: TrainConfig) -> str:
    if config.policy == "none":
        return LABELS[FULL]
    label = NAMES.get(config.policy, config.policy.replace("-", " "))
    if has_prune_ratio(config.policy) and (config.target is None or config.policy in BELOW_MEAN):
        label += f" r={config.prune_ratio:g}"
    if isinstance(config.target, float):
        label += f", {100 * config.target:g} % saved"
    return label + " (biased)" * issubclass(POLICIES[config.policy], BiasedPolicy)


def _describe(config: TrainConfig) -> str:
    return f"{_policy_label(config)}, {config.epochs:g} epochs, lr {config.lr:g}"
