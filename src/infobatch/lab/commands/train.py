"""The command that trains one run."""

from __future__ import annotations

from infobatch.lab.commands.arguments import OptionalFloat, OptionalPath, Options, RecipeName, Switch
from infobatch.lab.commands.console import RunWatch, console, live, print_summary
from infobatch.lab.commands.folders import new_path, resumed_path
from infobatch.lab.commands.loading import load
from infobatch.lab.commands.options import check_options, resumed, started
from infobatch.lab.config.noise_budget import budget_of
from infobatch.lab.config.pruned_epochs import why_nothing_left_out
from infobatch.lab.processes import agree
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.registry import metric_of
from infobatch.lab.training.train import train as train_run
from infobatch.lab.training.validate import check_run


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
        folder = RunFolder(resumed_path(out))
        config = resumed(options, recipe, save, agree(folder.config), noise)
    else:
        config = started(options, recipe, save, noise)
        folder = RunFolder(out or new_path(config))
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
