"""The commands that train nothing: they list recipes, evaluate and report runs, predict savings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.table import Table
from torch import Tensor

from infobatch.lab.commands.arguments import (
    OptionalFloat,
    OptionalNormsFrom,
    OptionalPath,
    Paths,
    PositionalPath,
    RecipeName,
)
from infobatch.lab.commands.console import console, plain_console, print_recipe
from infobatch.lab.commands.loading import load
from infobatch.lab.commands.results import print_results
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import DOWNLOADS
from infobatch.lab.data.images import write_picture
from infobatch.lab.processes import agree
from infobatch.lab.recipes import RECIPES, find_recipe
from infobatch.lab.report import read_comparison, read_runs, write_report
from infobatch.lab.report.classes import class_headings, class_rows
from infobatch.lab.runs.folder import RunFolder, check_is_one_run
from infobatch.lab.runs.sources import check_data, check_sources
from infobatch.lab.tasks.metrics import digits_of
from infobatch.lab.tasks.registry import TASKS, has_soft_targets, metric_of
from infobatch.policies import InfoBatch, NoiseBudget, Policy
from infobatch.prediction import predict_budgets, predict_saving
from infobatch.schedule import Schedule
from infobatch.scores.files import read_scores


def recipes(recipe: RecipeName = "") -> None:
    """List the recipes, or describe one of them.

    Args:
        recipe: The recipe to describe: its options, what its sources leave open, what others report.
    """
    if recipe:
        print_recipe(find_recipe(recipe))
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("recipe", "what", "needs"):
        table.add_column(heading, no_wrap=heading == "recipe")
    for each in sorted(RECIPES.values(), key=lambda each: each.needs_gpu):
        data = each.config().data
        needs = ["a GPU"] if each.needs_gpu else []
        needs += [f"{data} ({DOWNLOADS[data]})"] if data in DOWNLOADS else []
        table.add_row(each.name, each.summary, ", ".join(needs))
    console.print(table)
    console.print(
        "\n`infobatch recipes RECIPE` shows its options and what others report. Run it with `infobatch "
        "train RECIPE`, `compare RECIPE` or `sweep RECIPE…`; options given after it replace its own.",
    )


def evaluate(run: PositionalPath, data_dir: OptionalPath = None, device: str = "auto") -> None:
    """Evaluate a finished run's model on the test set, overall and for each class.

    Args:
        run: Folder of the run.
        data_dir: Folder of the data, if it is another one than in training.
        device: Device: cpu, cuda, cuda:1 and so on; auto takes cuda if there is one.
    """
    folder = RunFolder(run)
    config = replace(folder.config(), device=device, compile=False)
    if config.task == "own":
        raise ValueError(
            f"{run} was trained by a function of yours, {config.own.train}, which evaluates its model "
            "itself; what it gave is in summary.json there"
        )
    check_sources(config)
    if data_dir:
        config = replace(config, data_dir=data_dir)
    check_data(config)
    summary = folder.summary()
    data = load(config)
    metric = metric_of(config)
    task = TASKS[config.task].load()(config, data)
    folder.load_model(task.model)
    result = task.evaluate()
    figures = [metric.named(result.result)]
    if result.loss not in (result.result, *result.details.values()):
        figures.append(f"loss {result.loss:.4f}")
    for name, value in result.details.items():
        figures.append(f"{name} {value:.{digits_of(name, value)}f}")
    console.print(", ".join([*figures, f"{len(data.test):,} test samples"]))
    picture = task.picture()
    if picture is not None:
        path = run / "samples.png"
        write_picture(picture, path)
        console.print(f"What the model makes is in {path}", soft_wrap=True)
    num_full = summary.num_full if config.backward_share == 1 else None
    rows = class_rows(data, folder.scores(), result, num_full)
    if not rows:
        return
    metric = result.class_metric or metric
    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, heading in enumerate(class_headings(metric, num_full is not None)):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row.cells(metric))
    plain_console(file=console.file, width=max(console.width, 140)).print(table)


def report(runs: Paths, out: OptionalPath = None) -> None:
    """Report finished runs or a comparison: tables, plots and one HTML page.

    Args:
        runs: Folders of runs, or the folder of one comparison or sweep.
        out: Folder to write into; by default report/ in the comparison's folder, or a new one.
    """
    if len(runs) == 1 and not (runs[0] / "compare.json").exists():
        inside = sorted(path.parent for path in runs[0].glob("*/compare.json"))
        if inside and not report_each(inside, out):
            raise FileNotFoundError(f"none of the runs in {runs[0]} is finished; nothing to report yet")
        if inside:
            return
    write_and_print(runs, out)


def predict(
    scores: PositionalPath,
    epochs: OptionalFloat = None,
    prune_ratio: float = 0.5,
    delta: OptionalFloat = None,
    warmup_epochs: int = 1,
    norms_from: OptionalNormsFrom = None,
    plot: OptionalPath = None,
) -> None:
    """Predict what pruning would save, from the scores of any run: budgets of noise, and InfoBatch.

    Args:
        scores: A run's folder, or an .npz or .parquet file with a column last_loss.
        epochs: Length in epochs of the run to predict for; by default that of the run whose scores they
            are, and 200 where they are in no run's folder.
        prune_ratio: Share of the samples below the mean loss that InfoBatch leaves out.
        delta: Share of the run after which all data is used again (annealing); by default 0.875 for
            InfoBatch, and 1, which is none, for a budget.
        warmup_epochs: Number of unpruned epochs at the start.
        norms_from: What the losses are, for norms of gradients to follow from them; by default those of
            the run's task, and cross-entropies where the scores are in no run's folder.
        plot: A .png file for a plot of the saving against the noise of a step.
    """
    check_is_one_run(scores)
    table = read_scores(scores / "scores.npz" if scores.is_dir() else scores)
    run = RunFolder(scores if scores.is_dir() else scores.parent)
    config = run.config() if run.exists else TrainConfig(label_smoothing=0.0)
    length = config.epochs if epochs is None else epochs
    norms_from = norms_from or TASKS[config.task].norms_from

    def schedule_of(policy: type[Policy]) -> Schedule:
        return Schedule(
            len(table), length, policy.default_delta if delta is None else delta, warmup_epochs
        )

    schedule = schedule_of(NoiseBudget)
    if _tells_of_pruning(table["visits"]):
        console.print(
            "The run of these scores left samples out, and they tell of its last epochs: a first pruned "
            "epoch leaves out less than is predicted here. Better are the scores of a run on full "
            "data.\n"
        )
    if has_soft_targets(config) and table.last_norms is None:
        console.print(
            "The labels of this run were smoothed or mixed, and norms of gradients do not follow from "
            "such losses: a budget may leave out more than is predicted here. Scores of a run with "
            "--policy noise-budget have norms.\n"
        )
    console.print("What a budget of noise would save, in batches and not in steps:")
    console.print(str(predict_budgets(table, schedule, norms_from)))
    saving = predict_saving(table, InfoBatch(prune_ratio), schedule_of(InfoBatch))
    console.print(f"\nInfoBatch, prune ratio {prune_ratio:g}: {saving}")
    if plot:
        from infobatch.lab.report.budgets import draw_budgets  # matplotlib takes its time

        draw_budgets(table, schedule, norms_from).savefig(plot, dpi=110)
        console.print(f"The plot is {plot}", soft_wrap=True)


def _tells_of_pruning(visits: Tensor) -> bool:
    """Whether samples were trained unequally often; by one more or less they are in any cut epoch."""
    seen = visits[visits > 0]
    return len(seen) > 0 and int(seen.max() - seen.min()) > 1


def report_each(paths: Sequence[Path], out: Path | None = None) -> bool:
    """Report on each comparison that has a finished run, and name the others.

    Args:
        paths: Folders of comparisons.
        out: The folder in which each has its report; by default report/ in the comparison's folder.

    Returns:
        Whether there was one.
    """
    ready = [path for path in paths if agree(partial(_has_finished, path))]
    for path in ready:
        agree(partial(write_and_print, [path], out and out / path.name))
    if others := [path.name for path in paths if path not in ready]:
        console.print(f"No run is finished yet of {', '.join(others)}")
    return bool(ready)


def _has_finished(path: Path) -> bool:
    """Whether a comparison has a finished run."""
    made = Comparison.load(path)
    return any(made.folder(arm, seed).finished for arm, seed in made.runs)


def write_and_print(paths: Sequence[Path], out: Path | None = None) -> None:
    """Write a report and print its tables.

    Args:
        paths: Folders of runs, or the folder of one comparison.
        out: Folder to write into; by default report/ in the comparison's folder, or a new one.

    Raises:
        ValueError: If no folder is named.
        FileNotFoundError: If none of the runs is finished.
    """
    if not paths:
        raise ValueError("name the folders of runs, or the folder of one comparison, to report on")
    if len(paths) == 1 and (paths[0] / "compare.json").exists():
        results, default = read_comparison(paths[0]), paths[0] / "report"
    else:
        results, default = read_runs(paths), Path("runs") / time.strftime("report-%Y%m%d-%H%M%S")
    if not results.arms:
        raise FileNotFoundError("none of these runs is finished; there is nothing to report")
    page = write_report(results, out or default)
    print_results(results, console)
    console.print(f"\nThe report is {page}", soft_wrap=True)
