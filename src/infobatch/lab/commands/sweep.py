"""The command that trains recipes in several ways, and what it shares with contests."""

from __future__ import annotations

import math
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from infobatch.lab.commands.arguments import CommonOptions, OptionalFloat, OutPath, RecipeNames, Switch
from infobatch.lab.commands.console import ComparisonWatch, console, live, number_of_runs
from infobatch.lab.commands.loading import load
from infobatch.lab.commands.options import base_of, check_effects, check_options, shared
from infobatch.lab.commands.saving import refuse_both, variants_of
from infobatch.lab.commands.show import report_each
from infobatch.lab.comparison.run import SeedClock, run_comparison
from infobatch.lab.comparison.sweep import HELPER, Sweep, helpers, name_of
from infobatch.lab.comparison.variants import on_request
from infobatch.lab.config.noise_budget import BUDGETED
from infobatch.lab.data import Data
from infobatch.lab.processes import agree
from infobatch.lab.recipes import RECIPES
from infobatch.lab.report import check_drawable
from infobatch.policies import DEFAULT_FOR_TARGET

DEFAULT_SWEPT = f"{BUDGETED},infobatch"
DEFAULT_RATIOS = "0.3,0.5,0.7"


def sweep(
    options: CommonOptions,
    recipe: RecipeNames,
    policies: str = "",
    prune_ratio: str = "",
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
        policies: Policies, separated by commas (default: noise-budget,infobatch; with --noise and no
            --prune-ratio noise-budget alone; with --target spaced).
        prune_ratio: Prune ratios, separated by commas, for the policies that have one (default:
            0.3,0.5,0.7).
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
    also = on_request(same_steps, undersampling, controls)
    configs = [shared(options, name) for name in recipe]
    targets = [each.target for each in configs if each.target is not None]
    if noise and targets:
        refuse_both(noise, f"--target {targets[0]}")
    swept = BUDGETED if noise and not prune_ratio else DEFAULT_SWEPT
    policies = policies or (DEFAULT_FOR_TARGET if targets else swept)
    variants = variants_of(configs[0], policies, prune_ratio or DEFAULT_RATIOS, noise, bool(targets))
    for name, each in zip(recipe, configs, strict=True):
        check_effects([variant.config(each) for variant in variants], base_of(options, name))
        check_options(each)
    made = Sweep.of(configs, variants, seeds, margin, controls, out, also)
    run_sweep(made, {name_of(each): load(each) for each in configs}, jobs, minutes, options.arguments)


def run_sweep(
    made: Sweep,
    data: Mapping[str, Data],
    jobs: int,
    minutes: float | None,
    arguments: Sequence[str],
) -> None:
    """Train what is missing of a sweep or a contest, and report on it.

    Args:
        made: The sweep.
        data: The data of each comparison, by what :func:`name_of` calls it.
        jobs: Number of processes that share the work.
        minutes: After so many it stops with a checkpoint; None for no end.
        arguments: What was typed, with which helpers are started.

    Raises:
        ValueError: If an option is out of range, or the folder has runs of other options.
    """
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
        console.print(f"{name_of(comparison.config)}: {number_of_runs(comparison)}")
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
