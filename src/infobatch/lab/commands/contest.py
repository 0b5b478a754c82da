"""The command that trains every policy at the same costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from infobatch.lab.commands.arguments import CommonOptions, OptionalFloat, OutPath, RecipeName, Switch
from infobatch.lab.commands.console import console
from infobatch.lab.commands.loading import load
from infobatch.lab.commands.options import base_of, check_effects, check_options, shared
from infobatch.lab.commands.saving import budgets, numbers, refuse_both, share_of
from infobatch.lab.commands.sweep import run_sweep
from infobatch.lab.comparison.contest import CONTESTANTS, contestants
from infobatch.lab.comparison.sweep import Sweep, name_of
from infobatch.lab.comparison.variants import on_request
from infobatch.lab.config.noise_budget import has_budget
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.training.pruner_options import protected_samples
from infobatch.lab.training.validate import check_run

DEFAULT_CONTEST = "mnist5k-small-cnn"
DEFAULT_SAVING = "30"
"""The percentage that is saved in a contest of which nothing else is said."""


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
    also = on_request(same_steps, undersampling, controls)
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
    run_sweep(made, {name_of(base): data}, jobs, minutes, options.arguments)
    for reason in reasons:  # once more, below the table
        console.print(reason)
