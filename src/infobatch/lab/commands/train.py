"""The commands that train: one run, a comparison, a sweep, a contest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from infobatch.lab.commands.arguments import CommonOptions, OptionalPath, Options, RecipeName, Switch
from infobatch.lab.commands.console import ComparisonWatch, console, describe, live, print_summary
from infobatch.lab.commands.options import (
    check_config,
    load,
    numbers,
    of_recipe,
    saved_options,
    share_of,
    typed_options,
    variants_of,
)
from infobatch.lab.commands.show import write_and_print
from infobatch.lab.comparison.comparison import Comparison, Variant, run_comparison
from infobatch.lab.comparison.contest import CONTESTANTS, contestants
from infobatch.lab.comparison.sweep import Sweep, helpers
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.processes import agree
from infobatch.lab.recipes import RECIPES, find_recipe
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.registry import metric_of
from infobatch.lab.training import loop
from infobatch.lab.training.engine import Progress
from infobatch.lab.training.pruner_options import protected_samples


def train(
    config: Options,
    recipe: RecipeName = "",
    save: float | None = None,
    out: OptionalPath = None,
    resume: Switch = False,
) -> None:
    """Train one run and leave its folder.

    Args:
        config: The run; with a recipe, the options given replace the recipe's.
        recipe: Start from this recipe's options; `infobatch recipes` lists them.
        save: Percentage of the samples to leave out, by the policy we recommend if none is named.
        out: Folder of the run; by default a new one under runs/.
        resume: Go on with the unfinished run in --out, with the options it was started with.
    """
    config = of_recipe(recipe, config, save)
    folder = RunFolder(_folder(out, config, resume))
    if resume:
        config = saved_options(config, agree(folder.config))
    check_config(config)
    data = load(config)
    loop.check(config, data)
    if not resume:
        agree(folder.check_unused)
    if not agree(folder.claim):
        raise FileExistsError(f"{folder.path} is being trained by another process; wait for it")
    if not resume:
        agree(lambda: folder.create(config))
    elif agree(lambda: folder.finished):
        console.print("This run was finished before; nothing is trained.")
    with live("train", folder.path) as (progress, should_stop):
        task = progress.add_task("training", total=1)

        def watch(done: Progress) -> None:
            progress.update(task, completed=done.fraction, description=describe(done))
            if not console.is_terminal:
                console.print(describe(done), highlight=False)

        summary = loop.train(config, data, folder, watch, should_stop)
    print_summary(summary, metric_of(config))
    if summary.saved == 0 and config.policy != "none":
        console.print("No epoch was prunable: the first is warm-up, and the last anneals.")
    console.print(f"The run is in {folder.path}", highlight=False, soft_wrap=True)


def compare(
    config: Options,
    recipe: RecipeName = "",
    save: float | None = None,
    seeds: int = 5,
    margin: float | None = None,
    out: OptionalPath = None,
    resume: Switch = False,
) -> None:
    """Compare pruning with full data, and with fewer epochs and random pruning at the same cost.

    Args:
        config: The pruned run; the other arms are derived from it.
        recipe: Start from this recipe's options; `infobatch recipes` lists them.
        save: Percentage of the samples to leave out, by the policy we recommend if none is named.
        seeds: Runs of each arm, with seeds from --seed on.
        margin: What may be lost of the task's metric for the verdict "lossless"; of accuracy, by default
            0.5 points.
        out: Folder of the comparison; by default a new one under runs/.
        resume: Go on with the unfinished comparison in --out, with the options it was started with.
    """
    config = of_recipe(recipe, config, save)
    path = _folder(out, config, resume)
    variant = Variant(config.policy, config.prune_ratio)
    comparison = Comparison(config, (variant,), seeds, margin, path)
    if resume:
        comparison = agree(lambda: Comparison.load(path))
        saved_options(config, comparison.config)
    comparison.check()
    check_config(comparison.config)
    data = load(comparison.config)
    comparison.check_data(data)
    if not resume:
        agree(comparison.create)
    with live("compare", path) as (progress, should_stop):
        run_comparison(comparison, data, ComparisonWatch(comparison, progress), should_stop)
    agree(lambda: write_and_print([path]))


def sweep(
    config: CommonOptions,
    recipe: tyro.conf.Positional[tuple[str, ...]],
    policies: str = "infobatch,percentile-tiers",
    prune_ratio: str = "0.3,0.5,0.7",
    controls: bool = True,
    seeds: int = 3,
    margin: float | None = None,
    jobs: int = 1,
    minutes: float | None = None,
    out: Annotated[Path, tyro.conf.arg(metavar="PATH")] = Path("runs/sweep"),
) -> None:
    """Run recipes on full data and with several ways of pruning: what is missing, and no more.

    Every finished run in --out is kept, so that a sweep that was killed goes on with the same command,
    and one with more seeds or ratios adds to it.

    Args:
        config: Options that replace the recipes'.
        recipe: Recipes; `infobatch recipes` lists them.
        policies: What to leave out, separated by commas.
        prune_ratio: InfoBatch's prune ratios, separated by commas.
        controls: Train each variant's rivals at equal cost, too: fewer epochs and random pruning.
        seeds: Runs of each arm, with seeds from --seed on.
        margin: What may be lost of the task's metric for the verdict "lossless"; of accuracy, by default
            0.5 points.
        jobs: Processes that share the work; several may also be started by hand, on several GPUs, say.
        minutes: Stop at a checkpoint after this long.
        out: Folder of the sweep.
    """
    if not recipe:
        raise ValueError(f"name a recipe to sweep; there are: {', '.join(RECIPES)}")
    configs = [find_recipe(name).config().overridden(config, typed_options(config)) for name in recipe]
    variants = variants_of(policies, prune_ratio)
    made = Sweep.of(configs, variants, seeds, margin, controls, out)
    for each in configs:
        check_config(each)
    _run(made, {each.recipe: load(each) for each in configs}, jobs, minutes)


def contest(
    config: CommonOptions,
    recipe: RecipeName = "mnist5k-small-cnn",
    save: str = "30",
    policies: str = ",".join(CONTESTANTS),
    controls: bool = True,
    seeds: int = 5,
    margin: float | None = None,
    jobs: int = 1,
    minutes: float | None = None,
    out: Annotated[Path, tyro.conf.arg(metavar="PATH")] = Path("runs/contest"),
) -> None:
    """Train every policy on a recipe at the same costs, beside full data and fewer epochs.

    Like a sweep it trains what is missing, and no more. InfoBatch meets a cost by raising its prune
    ratio; a policy that cannot meet one says so and does not take part.

    Args:
        config: Options that replace the recipe's.
        recipe: A recipe; `infobatch recipes` lists them.
        save: Percentages of the samples to leave out, separated by commas.
        policies: The policies, separated by commas, with options such as proportional:floor=0.1.
        controls: Train fewer epochs at each cost, too, at two learning rates.
        seeds: Runs of each arm, with seeds from --seed on.
        margin: What may be lost of the task's metric for the verdict "lossless"; of accuracy, by default
            0.5 points.
        jobs: Processes that share the work; several may also be started by hand, on several GPUs, say.
        minutes: Stop at a checkpoint after this long.
        out: Folder of the contest.
    """
    targets = [share_of(number, "--save", save) for number in numbers("--save", save, "30,50,70")]
    base = find_recipe(recipe).config().overridden(config, typed_options(config))
    names = policies.split(",")
    if base.drop_last:
        raise ValueError(
            "--drop-last leaves out what does not fill a batch, by which the costs would differ; leave "
            "it out of a contest"
        )
    check_config(base)
    data = load(base)
    loop.check(replace(base, policy="none", target=None), data)
    known = (len(data.train), data.train_labels, protected_samples(base, data))
    variants, reasons = contestants(base, names, targets, *known)
    for reason in reasons:
        console.print(reason, highlight=False)
    made = Sweep.of([base], variants, seeds, margin, controls, out)
    _run(made, {base.recipe: data}, jobs, minutes)
    for reason in reasons:  # once more, below the table
        console.print(reason, highlight=False)


def _run(made: Sweep, data: Mapping[str, Data], jobs: int, minutes: float | None) -> None:
    """Train what is missing of a sweep and report on it; ``data``: by recipe."""
    if jobs < 1:
        raise ValueError(f"--jobs is {jobs}; it must be at least 1")
    if minutes is not None and minutes <= 0:
        raise ValueError(f"--minutes is {minutes:g}; it must be above 0")
    made.check()
    for comparison in made.comparisons:
        comparison.check_data(data[comparison.config.recipe])
    agree(made.save)
    for comparison in made.comparisons:
        done = sum(comparison.folder(arm, seed).finished for arm, seed in comparison.runs)
        count = f"{len(comparison.runs)} runs, {done} of them finished"
        console.print(f"{comparison.config.recipe}: {count}", highlight=False)
    with (
        live("sweep", made.comparisons[0].path.parent, minutes) as (progress, should_stop),
        helpers(jobs - 1),
    ):
        for comparison in made.comparisons:
            watch = ComparisonWatch(comparison, progress, comparison.config.recipe)
            run_comparison(comparison, data[comparison.config.recipe], watch, should_stop)
    for comparison in made.comparisons:
        agree(lambda path=comparison.path: write_and_print([path]))  # type: ignore[misc]


def _folder(out: Path | None, config: TrainConfig, resume: bool) -> Path:
    if out is None and resume:
        raise ValueError("--resume needs --out, the folder to go on in")
    stamp = agree(lambda: time.strftime("%Y%m%d-%H%M%S"))
    return out or Path("runs") / f"{config.recipe or f'{config.data}-{Path(config.model).name}'}-{stamp}"
