"""The commands that train: one run, a comparison, a sweep, a contest."""

from __future__ import annotations

import math
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from infobatch.lab.commands.arguments import (
    CommonOptions,
    OptionalFloat,
    OptionalInt,
    OptionalPath,
    Options,
    OutPath,
    RecipeName,
    RecipeNames,
    Switch,
)
from infobatch.lab.commands.console import ComparisonWatch, RunWatch, console, live, print_summary
from infobatch.lab.commands.options import (
    base_of,
    budgets,
    check_effects,
    check_options,
    load,
    numbers,
    refuse_both,
    resumed,
    share_of,
    shared,
    started,
    variants_of,
)
from infobatch.lab.commands.show import report_each, write_and_print
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.contest import CONTESTANTS, contestants
from infobatch.lab.comparison.run import SeedClock, run_comparison
from infobatch.lab.comparison.sweep import HELPER, Sweep, helpers, name_of
from infobatch.lab.comparison.variants import ON_REQUEST, SAME_STEPS, SHRUNK, UNDERSAMPLED, Variant
from infobatch.lab.config.noise_budget import budget_of, has_budget
from infobatch.lab.config.pruned_epochs import why_nothing_left_out
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.processes import agree
from infobatch.lab.recipes import RECIPES
from infobatch.lab.report import check_drawable
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.registry import metric_of
from infobatch.lab.training.pruner_options import protected_samples
from infobatch.lab.training.train import train as train_run
from infobatch.lab.training.validate import check_run
from infobatch.policies import DEFAULT_FOR_TARGET

DEFAULT_SEEDS = 5
DEFAULT_SWEPT = "noise-budget,infobatch"
DEFAULT_CONTEST = "mnist5k-small-cnn"
DEFAULT_SAVING = "30"
"""The percentage that is saved in a contest of which nothing else is said."""


def train(
    options: Options,
    recipe: RecipeName = "",
    save: OptionalFloat = None,
    noise: OptionalFloat = None,
    out: OptionalPath = None,
    resume: Switch = False,
) -> None:
    """Train one run; its folder keeps the model, the metrics and the scores.

    Args:
        options: Options of the run; those that are typed replace the recipe's.
        recipe: Start from this recipe's options; `infobatch recipes` lists them. Or a table of yours, as
            FILE.csv:COLUMN.
        save: Percentage of the samples to leave out, without --policy by spaced, in place of a budget.
        noise: Budget of gradient noise, above 1, of the policy noise-budget, which leaves out what it
            allows (default, where nothing else says what is left out: 1.1).
        out: Folder of the run; by default a new one under runs/.
        resume: Continue the unfinished run in --out, with the options that it was started with.
    """
    if resume:
        folder = RunFolder(_resumed_path(out))
        config = resumed(options, recipe, save, agree(folder.config), noise)
    else:
        config = started(options, recipe, save, noise)
        folder = RunFolder(out or _new_path(config))
    check_options(config)
    data = load(config)
    check_run(config, data)
    if not resume:
        agree(folder.check_unused)
    if not agree(folder.claim):
        raise FileExistsError(f"{folder.path} is being trained by another process; wait for it")
    if not resume:
        agree(lambda: folder.create(config))
    elif agree(lambda: folder.finished):
        console.print("This run was finished before; nothing is trained.")
    with live("train", folder.path) as (progress, should_stop):
        before = agree(lambda: len(folder.metrics()) / config.epochs)
        summary = train_run(config, data, folder, RunWatch(progress, before), should_stop)
    print_summary(summary, metric_of(config), budget_of(config))
    if summary.saved == 0 and config.policy != "none":
        console.print(f"Nothing was pruned: {why_nothing_left_out(config)}.")
    console.print(f"The run is in {folder.path}", soft_wrap=True)


def compare(
    options: Options,
    recipe: RecipeName = "",
    save: OptionalFloat = None,
    noise: OptionalFloat = None,
    seeds: OptionalInt = None,
    margin: OptionalFloat = None,
    same_steps: Switch = False,
    undersampling: Switch = False,
    out: OptionalPath = None,
    resume: Switch = False,
    add_seeds: int = 0,
) -> None:
    """Compare pruning with full data, and with fewer epochs and random pruning at the same cost.

    Args:
        options: Options of the pruned run; the other arms are derived from it.
        recipe: Start from this recipe's options; `infobatch recipes` lists them. Or a table of yours, as
            FILE.csv:COLUMN, or a training function, as FILE.py:NAME, which takes a run and returns its
            metric (--own.metric and --own.lower-is-better say which; --epochs, --batch-size and --lr
            are those of your training).
        save: Percentage of the samples to leave out, without --policy by spaced, in place of a budget.
        noise: Budget of gradient noise, above 1, of the policy noise-budget, which leaves out what it
            allows (default, where nothing else says what is left out: 1.1).
        seeds: Number of runs of each arm, with seeds from --seed on (default: 5).
        margin: Largest loss in the task's metric for the verdict "lossless" (default for accuracy: 0.5).
        same_steps: Also train fewer epochs with smaller batches, in as many steps as full data; where
            batches shrink that is done in any case.
        undersampling: Also leave out as many samples by their class alone, of the larger classes, as is
            often done by hand where some are rare.
        out: Folder of the comparison; by default a new one under runs/.
        resume: Continue the comparison in --out, with the options that it was started with; --seeds may
            be more than it had, and --margin another.
        add_seeds: Continue the comparison in --out with so many seeds more.
    """
    resume = resume or add_seeds != 0
    also = _asked_for(same_steps, undersampling)
    if resume:
        path = _resumed_path(out)
        comparison = agree(lambda: Comparison.load(path))
        config = resumed(options, recipe, save, comparison.config, noise)
        comparison = _with_more_seeds(replace(comparison, config=config), seeds, add_seeds)
        if margin is not None:  # it judges what is trained, and changes nothing of it
            comparison = replace(comparison, margin=margin)
        for kind in also:
            if not {kind, SHRUNK.get(kind, kind)} & {arm.kind for arm in comparison.arms}:
                raise ValueError(
                    f"{ON_REQUEST[kind]} asks for a control, and the comparison was started without it; "
                    "leave it out to go on, or start another comparison"
                )
    else:
        config = started(options, recipe, save, noise)
        path = out or _new_path(config)
        variant = Variant(config.policy, config.prune_ratio)
        number = DEFAULT_SEEDS if seeds is None else seeds
        comparison = Comparison(config, (variant,), number, margin, path, also=also)
    check_drawable()
    comparison.check()
    check_options(comparison.config)
    data = load(comparison.config)
    comparison.check_data(data)
    agree(comparison.save if resume else comparison.create)
    with live("compare", path) as (progress, should_stop):
        watch = ComparisonWatch([comparison], progress)
        run_comparison(comparison, data, watch.of(comparison), should_stop)
    agree(lambda: write_and_print([path]))


def sweep(
    options: CommonOptions,
    recipe: RecipeNames,
    policies: str = "",
    prune_ratio: str = "0.3,0.5,0.7",
    noise: str = "",
    controls: bool = True,
    same_steps: Switch = False,
    undersampling: Switch = False,
    seeds: int = 3,
    margin: OptionalFloat = None,
    jobs: int = 1,
    minutes: OptionalFloat = None,
    out: OutPath = Path("runs/sweep"),
) -> None:
    """Train recipes on full data and with several ways of pruning.

    Finished runs in --out are kept and only missing ones are trained. So the same command continues a
    sweep that was stopped, and a command with more seeds or ratios adds to it.

    Args:
        options: Options that replace the recipes'.
        recipe: Names of recipes; `infobatch recipes` lists them. Or tables of yours, as FILE.csv:COLUMN.
        policies: Policies, separated by commas (default: noise-budget,infobatch; with --target spaced).
        prune_ratio: Prune ratios, separated by commas, for the policies that have one.
        noise: Budgets of gradient noise, separated by commas, for the policies that have one.
        controls: Also train fewer epochs and random pruning at the cost of each variant.
        same_steps: Also train fewer epochs with smaller batches, in as many steps as full data; where
            batches shrink that is among the controls in any case.
        undersampling: Also leave out as many samples by their class alone, of the larger classes, as is
            often done by hand where some are rare.
        seeds: Number of runs of each arm, with seeds from --seed on.
        margin: Largest loss in the task's metric for the verdict "lossless" (default for accuracy: 0.5).
        jobs: Number of processes that share the work; more can be started by hand, say on other GPUs.
        minutes: Stop with a checkpoint after this many minutes, and begin no seed that would not be
            finished by then; a report is written of what is finished.
        out: Folder of the sweep.
    """
    if not recipe:
        raise ValueError(f"name a recipe to sweep; there are: {', '.join(RECIPES)}")
    also = _asked_for(same_steps, undersampling, controls)
    configs = [shared(options, name) for name in recipe]
    targets = [each.target for each in configs if each.target is not None]
    if noise and targets:
        refuse_both(noise, f"--target {targets[0]}")
    policies = policies or (DEFAULT_FOR_TARGET if targets else DEFAULT_SWEPT)
    variants = variants_of(configs[0], policies, prune_ratio, noise, bool(targets))
    for name, each in zip(recipe, configs, strict=True):
        check_effects([variant.config(each) for variant in variants], base_of(options, name))
        check_options(each)
    made = Sweep.of(configs, variants, seeds, margin, controls, out, also)
    _run(made, {name_of(each): load(each) for each in configs}, jobs, minutes, options.arguments)


def contest(
    options: CommonOptions,
    recipe: RecipeName = "",
    save: str = "",
    noise: str = "",
    policies: str = ",".join(CONTESTANTS),
    controls: bool = True,
    same_steps: Switch = False,
    undersampling: Switch = False,
    seeds: int = 5,
    margin: OptionalFloat = None,
    jobs: int = 1,
    minutes: OptionalFloat = None,
    out: OutPath = Path("runs/contest"),
) -> None:
    """Train every policy on a recipe at the same costs, beside full data and fewer epochs.

    Like a sweep, it trains only runs that are missing. InfoBatch meets a cost by raising its prune
    ratio; a policy that cannot meet a cost does not take part, and the command says why.

    Args:
        options: Options that replace the recipe's.
        recipe: Name of the recipe; `infobatch recipes` lists them. Or a table of yours, as
            FILE.csv:COLUMN (default, unless --task is given: mnist5k-small-cnn).
        save: Percentages of the samples to leave out, separated by commas (default: 30).
        noise: Budgets of gradient noise, separated by commas; the policy noise-budget then leaves out
            what they allow, in place of what --save asks of the others.
        policies: Policies, separated by commas; options follow a name, as in proportional:floor=0.1.
        controls: Also train at each cost fewer epochs, at two learning rates, and random pruning, where
            it is none of the policies.
        same_steps: Also train fewer epochs with smaller batches, in as many steps as full data; where
            batches shrink that is among the controls in any case.
        undersampling: Also leave out as many samples by their class alone, of the larger classes, as is
            often done by hand where some are rare.
        seeds: Number of runs of each arm, with seeds from --seed on.
        margin: Largest loss in the task's metric for the verdict "lossless" (default for accuracy: 0.5).
        jobs: Number of processes that share the work; more can be started by hand, say on other GPUs.
        minutes: Stop with a checkpoint after this many minutes, and begin no seed that would not be
            finished by then; a report is written of what is finished.
        out: Folder of the contest.
    """
    also = _asked_for(same_steps, undersampling, controls)
    percentages = numbers("--save", save or DEFAULT_SAVING, "30,50,70")
    targets = [share_of(number, "--save", save) for number in percentages]
    if not recipe and options.over(TrainConfig()).task == TrainConfig().task:
        recipe = DEFAULT_CONTEST
    base = shared(options, recipe)
    names, noises = policies.split(","), budgets(noise)
    if noises and save and all(map(has_budget, names)):
        refuse_both(noise, f"--save {save}")
    if noises and base.target is not None:
        refuse_both(noise, f"--target {base.target}")
    if base.target is not None:
        raise ValueError(
            f"--target is {base.target}, and in a contest --save says how much is left out, in percent; "
            "give --save 30,50 or the like"
        )
    if base.drop_last:
        raise ValueError(
            "--drop-last leaves out what does not fill a batch, by which the costs would differ; leave "
            "it out of a contest"
        )
    check_options(base)
    data = load(base)
    check_run(replace(base, policy="none", target=None), data)
    known = (len(data.train), data.train_labels, protected_samples(base, data))
    variants, reasons = contestants(base, names, targets, *known, noises)
    check_effects([variant.config(base) for variant in variants], base_of(options, recipe))
    for reason in reasons:
        console.print(reason)
    made = Sweep.of([base], variants, seeds, margin, controls, out, also)
    _run(made, {name_of(base): data}, jobs, minutes, options.arguments)
    for reason in reasons:  # once more, below the table
        console.print(reason)


def _asked_for(same_steps: bool, undersampling: bool, controls: bool = True) -> tuple[str, ...]:
    """The kinds of controls that are asked for, of ``ON_REQUEST``."""
    asked = {SAME_STEPS: same_steps, UNDERSAMPLED: undersampling}
    kinds = tuple(kind for kind in ON_REQUEST if asked[kind])
    if kinds and not controls:
        raise ValueError(
            f"{ON_REQUEST[kinds[0]]} asks for a control, and --no-controls for none; leave one of them "
            "out"
        )
    return kinds


def _with_more_seeds(comparison: Comparison, seeds: int | None, more: int) -> Comparison:
    """The comparison that is gone on with, with the seeds that are asked for."""
    before = comparison.num_seeds
    if seeds is not None and more:
        raise ValueError(
            f"--seeds {seeds} and --add-seeds {more} both say how many seeds there are to be; leave one "
            "of them out"
        )
    if more < 0:
        raise ValueError(f"--add-seeds is {more}; it must be at least 1")
    wanted = before + more if seeds is None else seeds
    if wanted < before:
        raise ValueError(
            f"--seeds is {wanted}, and the comparison has {before} seeds, which are kept; give as many "
            "or more, or leave it out"
        )
    return replace(comparison, num_seeds=wanted)


def _run(
    made: Sweep,
    data: Mapping[str, Data],
    jobs: int,
    minutes: float | None,
    arguments: Sequence[str],
) -> None:
    """Train what is missing of a sweep, with the data of each recipe, and report on it."""
    if jobs < 1:
        raise ValueError(f"--jobs is {jobs}; it must be at least 1")
    if minutes is not None and minutes <= 0:
        raise ValueError(f"--minutes is {minutes:g}; it must be above 0")
    check_drawable()
    made.check()
    for comparison in made.comparisons:
        comparison.check_data(data[name_of(comparison.config)])
    agree(lambda: made.check_runs({name: len(each.train) for name, each in data.items()}))
    agree(made.save)
    for comparison in made.comparisons:
        done = sum(comparison.folder(arm, seed).finished for arm, seed in comparison.runs)
        count = f"{len(comparison.runs)} runs, {done} of them finished"
        console.print(f"{name_of(comparison.config)}: {count}")
    paths = [comparison.path for comparison in made.comparisons]
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    again = shlex.join(["infobatch", *arguments])
    try:
        with (
            live("sweep", paths[0].parent, minutes, again) as (progress, should_stop),
            helpers(jobs - 1, arguments),
        ):
            watch = ComparisonWatch(made.comparisons, progress, names_them=True)
            for each in made.comparisons:
                clock = SeedClock(end, jobs)
                run_comparison(each, data[name_of(each.config)], watch.of(each), should_stop, clock)
    except SystemExit:  # stopped
        _report(paths)
        raise
    _report(paths)


def _report(paths: Sequence[Path]) -> None:
    """Report on what is finished of each comparison; helpers leave that to who started them."""
    if HELPER not in os.environ:
        report_each(paths)


def _resumed_path(out: Path | None) -> Path:
    """The folder to go on in."""
    if out is None:
        raise ValueError("--resume needs --out, the folder to go on in")
    return out


def _new_path(config: TrainConfig) -> Path:
    """A folder under runs/ that is named after what is trained and the time."""
    stamp = agree(lambda: time.strftime("%Y%m%d-%H%M%S"))
    model = Path(config.model).name.replace(":", "-")
    return Path("runs") / f"{config.recipe or f'{config.data}-{model}'}-{stamp}"
