"""The command that compares pruning with what one would do instead."""

from __future__ import annotations

from dataclasses import replace

from infobatch.lab.commands.arguments import (
    OptionalFloat,
    OptionalInt,
    OptionalPath,
    Options,
    RecipeName,
    Switch,
)
from infobatch.lab.commands.console import ComparisonWatch, console, live, number_of_runs
from infobatch.lab.commands.folders import new_path, resumed_path
from infobatch.lab.commands.loading import load
from infobatch.lab.commands.options import check_options, resumed, started
from infobatch.lab.commands.show import write_and_print
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.run import run_comparison
from infobatch.lab.comparison.variants import ON_REQUEST, SHRUNK, Variant, on_request
from infobatch.lab.processes import agree
from infobatch.lab.report import check_drawable

DEFAULT_SEEDS = 5


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
    also = on_request(same_steps, undersampling)
    if resume:
        path = resumed_path(out)
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
        path = out or new_path(config)
        variant = Variant(config.policy, config.prune_ratio)
        number = DEFAULT_SEEDS if seeds is None else seeds
        comparison = Comparison(config, (variant,), number, margin, path, also=also)
    check_drawable()
    comparison.check()
    check_options(comparison.config)
    data = load(comparison.config)
    comparison.check_data(data)
    agree(comparison.save if resume else comparison.create)
    console.print(number_of_runs(comparison))
    with live("compare", path) as (progress, should_stop):
        watch = ComparisonWatch([comparison], progress)
        run_comparison(comparison, data, watch.of(comparison), should_stop)
    agree(lambda: write_and_print([path]))


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
