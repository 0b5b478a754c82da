"""Finished runs and comparisons, read from their folders."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

from infobatch.lab.comparison.command import commands_of
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.labels import label_of, policy_label
from infobatch.lab.comparison.variants import (
    CONTROLS,
    FEWER,
    FEWER_SCALED,
    FULL,
    PRUNED,
    Arm,
    Variant,
)
from infobatch.lab.config.policy_spec import (
    PROXY_FILTERING,
    SELECTIVE_BACKPROP,
)
from infobatch.lab.config.pruned_epochs import delta_of
from infobatch.lab.config.train import TrainConfig, flag
from infobatch.lab.data.marks import OWN_DATA
from infobatch.lab.data.table_files import own_file
from infobatch.lab.models import is_own
from infobatch.lab.recipes import RECIPES, Published
from infobatch.lab.report.arms import ArmRuns, Run
from infobatch.lab.report.results import Results
from infobatch.lab.runs.folder import RunFolder, check_is_one_run
from infobatch.lab.runs.same_options import NEUTRAL_OPTIONS
from infobatch.lab.tasks.metrics import Metric
from infobatch.lab.tasks.registry import metric_of

COST_NOTE = (
    "What is saved is of the cost, in samples trained: a forward pass alone counts as a third of one, "
    "scores made beforehand in full. So a policy with such passes or scores trains on fewer than others."
)
NOISE_COLUMN_NOTE = (
    "Noise: of a step in pruned epochs, where 1 is full data's in as many steps, and 2 that of batches "
    "half as large, or of random pruning that keeps half. It is the second moment of the gradient, by "
    "the norms of samples when they were trained, in the mean over these epochs; in parentheses is the "
    "budget."
)
OWN_NOTE = (
    "Seconds are those of the epochs, from the beginning of each to its last losses, and a step is one "
    "call of pruner.update or pruner.record: a step accumulated of several batches counts as several."
)
SMALL = 1e-3
"""Where all results are smaller, a metric's digits would hide them."""
IN_LABELS = (
    *("seed", "device", "recipe", "policy", "prune_ratio", "target", "shrink", "delta"),
    *("epochs", "lr", "workers", "probe", "data_mark"),
)
"""Options that a label of a run tells, or that do not matter for its result."""
SAME_OPTIONS = (
    *("model", "pretrained", "transform", "image_size", "test", "source"),
    *("held_out", "tabular.target"),
)
"""The options that the runs of a report have in common, beside their task and data set."""


def read_comparison(path: Path) -> Results:
    """Read the finished runs of a comparison.

    Args:
        path: The comparison's folder.

    Returns:
        What a report shows of it, with notes on runs that are missing.
    """
    comparison = Comparison.load(path)
    arms, num_missing = [], 0
    for arm in comparison.arms:
        folders = {seed: comparison.folder(arm, seed) for seed in comparison.seeds}
        runs = {seed: read_run(folder) for seed, folder in folders.items() if folder.finished}
        num_missing += len(folders) - len(runs)
        if runs:
            label = label_of(arm, comparison.config, comparison.is_contest)
            arms.append(ArmRuns(arm, label, runs))
    arms, metric = _with_digits(arms, metric_of(comparison.config))
    if comparison.is_contest:
        arms = _by_cost(arms)
    arms, notes = _drop_worse_rates(arms, metric)
    published, differs = _published(comparison.config)
    notes += _notes_on(arms)
    if num_missing:
        notes.append(f"Unfinished: {num_missing} of the {len(comparison.runs)} runs are missing.")
    return Results(
        title=_title(comparison.config, arms),
        metric=metric,
        arms=arms,
        full=next((arm for arm in arms if arm.kind == FULL), None),
        margin=metric.margin if comparison.margin is None else comparison.margin,
        commands=commands_of(comparison),
        notes=[*notes, *differs],
        published=published,
        is_contest=comparison.is_contest and sum(arm.kind == PRUNED for arm in arms) > 1,
    )


def _by_cost(arms: Sequence[ArmRuns]) -> list[ArmRuns]:
    """Full data first, then by what is saved, the controls before the policies."""
    measured = {
        arm.arm.variant: 1 - arm.mean("cost") / arm.mean("num_full")
        for arm in arms
        if arm.kind == PRUNED and arm.arm.variant is not None
    }

    def saved(arm: ArmRuns) -> tuple[float, bool]:
        variant = arm.arm.variant
        if variant is None:
            return 0, False
        known = measured.get(variant, 1.0) if variant.target is None else variant.target
        return known, arm.kind not in CONTROLS

    return sorted(arms, key=saved)


def _published(config: TrainConfig) -> tuple[Sequence[Published], list[str]]:
    """What others report for a recipe's experiment; a note instead where the options differ from it."""
    recipe = RECIPES.get(config.recipe)
    if recipe is None or not recipe.published:
        return (), []
    where = (*NEUTRAL_OPTIONS, "seed", "policy", "prune_ratio")
    changed = [name for name in config.differences(recipe.config()) if name not in where]
    if not changed:
        return recipe.published, []
    names = ", ".join(map(flag, changed))
    return (), [f"Not beside what others report: it differs from the recipe in {names}."]


def _notes_on(arms: Sequence[ArmRuns]) -> list[str]:
    """How to read what the tables have of some runs alone."""
    runs = [run for arm in arms for run in arm.runs.values()]
    of_some = {
        COST_NOTE: any(run.summary.cost > run.summary.num_trained for run in runs),
        NOISE_COLUMN_NOTE: any(run.summary.mean_noise is not None for run in runs),
        OWN_NOTE: any(run.config.task == "own" for run in runs),
    }
    return [note for note, is_of_some in of_some.items() if is_of_some]


def _drop_worse_rates(arms: Sequence[ArmRuns], metric: Metric) -> tuple[list[ArmRuns], list[str]]:
    """Keep the better of the two learning rates that fewer epochs were trained at, and note it.

    They are compared over the seeds that both have; without one both are kept.
    """

    def gain(arm: ArmRuns, seeds: Collection[int]) -> float:
        result = fmean(arm.runs[seed].summary.result for seed in seeds)
        return metric.gain(result) if math.isfinite(result) else -math.inf

    kept, others = list(arms), []
    for same in (arm for arm in arms if arm.kind == FEWER):
        for scaled in arms:
            seeds = same.runs.keys() & scaled.runs.keys()
            if scaled.kind == FEWER_SCALED and scaled.arm.variant == same.arm.variant and seeds:
                worse = min(same, scaled, key=partial(gain, seeds=seeds))
                kept.remove(worse)
                reached = f"{metric.text(worse.result)} {metric.unit}".rstrip()
                others.append(reached if math.isfinite(worse.result) else "no finite result")
    if not others:
        return kept, []
    return kept, [
        "Fewer epochs was trained at the same peak learning rate and at one scaled by N/|S| (lr↑); the "
        f"better is shown, the other reached {', '.join(others)}."
    ]


def read_runs(paths: Sequence[Path]) -> Results:
    """Read any finished runs; those that differ only in their seed make one arm.

    Args:
        paths: The folders of the runs.

    Returns:
        What a report shows of them.

    Raises:
        ValueError: If a folder holds several runs, a run is given twice, or the runs differ in their
            task, data, metric or network.
    """
    groups: dict[str, ArmRuns] = {}
    for path in paths:
        check_is_one_run(path)
        run = read_run(RunFolder(path))
        same = replace(run.config, delta=delta_of(run.config))
        options = {**same.to_json(), **dict.fromkeys(("seed", *NEUTRAL_OPTIONS))}
        if run.config.data in OWN_DATA:  # which are not told by their name
            options["data_dir"] = str(run.config.data_dir)
        key = json.dumps(options, sort_keys=True)
        target = run.config.target
        target = target if isinstance(target, float) else None
        variant = Variant(run.config.policy, run.config.prune_ratio, target)
        if run.config.backward_share < 1:
            proxy = run.config.proxy
            policy = f"{PROXY_FILTERING}:proxy={proxy}" if proxy else SELECTIVE_BACKPROP
            variant = Variant(policy, run.config.prune_ratio, target)
        compared = Arm(FULL) if variant.policy == "none" else Arm(PRUNED, variant)
        arm = groups.setdefault(key, ArmRuns(compared, _describe(run.config), {}))
        if run.config.seed in arm.runs:
            raise ValueError(
                f"{path} and another folder hold the same run (seed {run.config.seed}, {arm.label}); "
                "give each once"
            )
        arm.runs[run.config.seed] = run
    arms = list(groups.values())
    configs = [next(iter(arm.runs.values())).config for arm in arms]
    arms = [
        replace(arm, label=arm.label + told)
        for arm, told in zip(arms, _told_apart(configs), strict=True)
    ]
    judged = {(config.task, config.data, metric_of(config).name) for config in configs}
    if len(judged) > 1:
        names = ", ".join(f"{task} on {data} by {metric}" for task, data, metric in sorted(judged))
        raise ValueError(
            f"these runs are of different tasks, data sets or metrics ({names}); report each apart"
        )
    for option in SAME_OPTIONS:
        if len(values := {config.options()[option]: None for config in configs}) > 1:
            raise ValueError(
                f"these runs differ in {flag(option)} ({' and '.join(map(str, values))}), and a report "
                "is of one network on one set of data; report each apart"
            )
    places = {config.data_mark: str(config.data_dir) for config in configs if config.data_mark}
    if len(places) > 1:
        raise ValueError(
            f"these runs are of different data, which were in {' and in '.join(places.values())}, "
            f"though each is called {configs[0].data}; report each apart"
        )
    arms, metric = _with_digits(arms, metric_of(configs[0]))
    longest = max((arm for arm in arms if arm.kind == FULL), key=_length, default=None)
    commands = [
        shlex.join(["infobatch", "train", *run.config.to_arguments()])
        for arm in arms
        for run in arm.runs.values()
    ]
    title, notes = _title(configs[0], arms), _notes_on(arms)
    return Results(title, metric, arms, longest, metric.margin, commands, notes)


def read_run(folder: RunFolder) -> Run:
    """Read one finished run."""
    config = folder.config()
    return Run(config, folder.summary(), folder.metrics(), metric_of(config))


def _with_digits(arms: Sequence[ArmRuns], metric: Metric) -> tuple[list[ArmRuns], Metric]:
    """Arms and their metric with four digits that count, where all results are small."""
    results = [abs(result) for arm in arms for result in arm.results if math.isfinite(result)]
    largest = max(results, default=0.0)
    if metric.unit == "%" or not 0 < largest < SMALL:
        return list(arms), metric
    metric = replace(metric, digits=3 - math.floor(math.log10(largest)))
    return [
        replace(arm, runs={seed: replace(run, metric=metric) for seed, run in arm.runs.items()})
        for arm in arms
    ], metric


def _length(arm: ArmRuns) -> float:
    return max(run.config.epochs for run in arm.runs.values())


def _title(config: TrainConfig, arms: Sequence[ArmRuns]) -> str:
    lengths = f"{config.epochs:g} epochs, batch {config.batch_size}"
    if config.task == "own":
        return f"{Path(config.own.train).name}, {lengths}, lr {config.lr:g}"
    file = own_file(config.data, config.data_dir)
    data = config.data if file is None else file.name
    if (config.train_samples or config.subset or config.imbalance > 1) and arms:
        run = next(iter(arms[0].runs.values()))
        data += f" ({run.metrics[0].num_samples:,} samples)"
    configs = [run.config for arm in arms for run in arm.runs.values()]
    if config.imbalance > 1 and all(each.imbalance == config.imbalance for each in configs):
        data += f", long-tailed by {config.imbalance:g}"
    if config.held_out and all(each.held_out == config.held_out for each in configs):
        data += f", evaluated on {100 * config.held_out:g} % held out of it"
    model = Path(config.model).name if is_own(config.model) else config.model
    return f"{model} on {data}, {lengths}"


def _told_apart(configs: Sequence[TrainConfig]) -> list[str]:
    """Of each arm, the options that differ among arms and are not in their labels."""
    values = [config.options() for config in configs]
    others = [
        name
        for name, value in values[0].items()
        if name not in IN_LABELS and any(each[name] != value for each in values)
    ]
    return ["".join(f", {flag(name)} {each[name]}" for name in others) for each in values]


def _describe(config: TrainConfig) -> str:
    return f"{policy_label(config)}, {config.epochs:g} epochs, lr {config.lr:g}"
