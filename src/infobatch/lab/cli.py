"""The command line: plain functions with typed signatures; `infobatch COMMAND --help` shows them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

try:
    import tyro
    from rich.console import Console
    from rich.table import Table
except ImportError as error:
    raise SystemExit(
        f"infobatch: the command line needs {error.name}: pip install 'infobatch[lab]'"
    ) from error

from infobatch import __version__
from infobatch.export import read_scores
from infobatch.lab import training
from infobatch.lab.compare import Comparison, Variant, run_comparison
from infobatch.lab.config import CommonConfig, TrainConfig
from infobatch.lab.console import ComparisonWatch, console, describe, live, print_recipe, print_summary
from infobatch.lab.contest import CONTESTANTS, contestants
from infobatch.lab.data import DOWNLOADS, Data
from infobatch.lab.options import (
    check_config,
    load,
    numbers,
    of_recipe,
    saved_options,
    share_of,
    typed_options,
    variants_of,
)
from infobatch.lab.processes import agree, joined
from infobatch.lab.recipes import RECIPES, find_recipe
from infobatch.lab.report import print_results, read_comparison, read_runs, write_report
from infobatch.lab.report.classes import CLASS_HEADINGS, class_rows
from infobatch.lab.runs import RunFolder
from infobatch.lab.sweep import Sweep, helpers
from infobatch.lab.tasks.classification import Classification
from infobatch.policies import InfoBatch
from infobatch.saving import predict_saving
from infobatch.schedule import Schedule

Options = Annotated[TrainConfig, tyro.conf.arg(name="")]
CommonOptions = Annotated[CommonConfig, tyro.conf.arg(name="")]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
RecipeName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE]")]
Paths = tyro.conf.Positional[tuple[Path, ...]]
Switch = tyro.conf.FlagCreatePairsOff[bool]


def recipes(recipe: RecipeName = "") -> None:
    """List the recipes, the published experiments and small ones; or tell all of one.

    Args:
        recipe: The one to tell of: its options, what its sources leave open, what others report.
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
    console.print(table, highlight=False)
    console.print(
        "\n`infobatch recipes RECIPE` tells its options and what others report. Run it with `infobatch "
        "train RECIPE`, `compare RECIPE` or `sweep RECIPE…`; options given after it replace its own.",
        highlight=False,
    )


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
    training.check(config, data)
    if not resume:
        agree(folder.check_unused)
    if not agree(folder.claim):
        raise FileExistsError(f"{folder.path} is being trained by another process; wait for it")
    if not resume:
        agree(lambda: folder.create(config))
    with live("train", folder.path) as (progress, should_stop):
        task = progress.add_task("training", total=1)

        def watch(done: training.Progress) -> None:
            progress.update(task, completed=done.fraction, description=describe(done))
            if not console.is_terminal:
                console.print(describe(done), highlight=False)

        summary = training.train(config, data, folder, watch, should_stop)
    print_summary(summary)
    if summary.saved == 0 and config.policy != "none":
        console.print("No epoch was prunable: the first is warm-up, and the last anneals.")
    console.print(f"The run is in {folder.path}", highlight=False, soft_wrap=True)


def compare(
    config: Options,
    recipe: RecipeName = "",
    save: float | None = None,
    seeds: int = 5,
    margin: float = 0.5,
    out: OptionalPath = None,
    resume: Switch = False,
) -> None:
    """Compare pruning with full data, and with fewer epochs and random pruning at the same cost.

    Args:
        config: The pruned run; the other arms are derived from it.
        recipe: Start from this recipe's options; `infobatch recipes` lists them.
        save: Percentage of the samples to leave out, by the policy we recommend if none is named.
        seeds: Runs of each arm, with seeds from --seed on.
        margin: Accuracy points that may be lost for the verdict "lossless".
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
    agree(lambda: _report([path]))


def sweep(
    config: CommonOptions,
    recipe: tyro.conf.Positional[tuple[str, ...]],
    policies: str = "infobatch,percentile-tiers",
    prune_ratio: str = "0.3,0.5,0.7",
    controls: bool = True,
    seeds: int = 3,
    margin: float = 0.5,
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
        margin: Accuracy points that may be lost for the verdict "lossless".
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
    _run(made, {each.data: load(each) for each in configs}, jobs, minutes)


def contest(
    config: CommonOptions,
    recipe: RecipeName = "mnist5k-small-cnn",
    save: str = "30",
    policies: str = ",".join(CONTESTANTS),
    controls: bool = True,
    seeds: int = 5,
    margin: float = 0.5,
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
        policies: The policies, separated by commas.
        controls: Train fewer epochs at each cost, too, at two learning rates.
        seeds: Runs of each arm, with seeds from --seed on.
        margin: Accuracy points that may be lost for the verdict "lossless".
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
    variants, reasons = contestants(base, names, targets, data.train_labels)
    for reason in reasons:
        console.print(reason, highlight=False)
    made = Sweep.of([base], variants, seeds, margin, controls, out)
    _run(made, {base.data: data}, jobs, minutes)


def _run(made: Sweep, data: Mapping[str, Data], jobs: int, minutes: float | None) -> None:
    """Train what is missing of a sweep and report on it."""
    if jobs < 1:
        raise ValueError(f"--jobs is {jobs}; it must be at least 1")
    if minutes is not None and minutes <= 0:
        raise ValueError(f"--minutes is {minutes:g}; it must be above 0")
    made.check()
    for comparison in made.comparisons:
        comparison.check_data(data[comparison.config.data])
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
            run_comparison(comparison, data[comparison.config.data], watch, should_stop)
    for comparison in made.comparisons:
        agree(lambda path=comparison.path: _report([path]))  # type: ignore[misc]


def evaluate(
    run: tyro.conf.Positional[Path], data_dir: Path | None = None, device: str = "auto"
) -> None:
    """Evaluate a finished run's model on the test set: accuracy, overall and of each class.

    Args:
        run: Folder of the run.
        data_dir: Where the data lies now, if elsewhere than when it was trained.
        device: cpu, cuda, cuda:1, ...; auto takes cuda where there is one.
    """
    folder = RunFolder(run)
    config = replace(folder.config(), device=device, compile=False)
    if data_dir:
        config = replace(config, data_dir=data_dir)
    summary = folder.summary()
    data = load(config)
    task = Classification(config, data)
    folder.load_model(task.model)
    result = task.evaluate()
    console.print(
        f"accuracy {result.accuracy:.2f} %, top-5 {result.top5:.2f} %, loss {result.loss:.4f}, "
        f"{sum(result.counts):,} test images",
        highlight=False,
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in CLASS_HEADINGS:
        table.add_column(heading, justify="left" if heading == CLASS_HEADINGS[0] else "right")
    for row in class_rows(data, folder.scores(), result, summary.num_full):
        table.add_row(*row.cells())
    Console(file=console.file, width=max(console.width, 100)).print(table)


def report(runs: Paths, out: OptionalPath = None) -> None:
    """Draw finished runs, or a comparison's, together: table, plots and one HTML page.

    Args:
        runs: Folders of runs, or of one comparison or sweep.
        out: Folder to write into; by default report/ in the comparison's folder, or a new one.
    """
    if len(runs) == 1 and not (runs[0] / "compare.json").exists():
        inside = sorted(path.parent for path in runs[0].glob("*/compare.json"))
        for path in inside:
            _report([path], out and out / path.name)
        if inside:
            return
    _report(runs, out)


def predict(
    scores: tyro.conf.Positional[Path],
    epochs: float = 200,
    prune_ratio: float = 0.5,
    delta: float = 0.875,
    warmup_epochs: int = 1,
) -> None:
    """Predict what InfoBatch would save, from any run's scores.npz.

    Args:
        scores: An .npz or .parquet file with a column last_loss.
        epochs: Length of the run to predict for.
        prune_ratio: Share of the below-average samples left out.
        delta: Share of the run after which all data is used again.
        warmup_epochs: Unpruned epochs at the start.
    """
    table = read_scores(scores)
    schedule = Schedule(len(table), epochs, delta, warmup_epochs)
    console.print(str(predict_saving(table, InfoBatch(prune_ratio), schedule)), highlight=False)


COMMANDS: dict[str, Callable[..., Any]] = {
    "compare": compare,
    "train": train,
    "recipes": recipes,
    "sweep": sweep,
    "contest": contest,
    "eval": evaluate,
    "report": report,
    "predict": predict,
}


def main() -> None:
    """Unbiased dynamic data pruning: train, compare and report."""
    if sys.argv[1:] == ["--version"]:
        print(f"infobatch {__version__}")
        return
    try:
        with joined() as replicas:
            console.quiet = console.quiet or replicas.rank > 0
            tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="infobatch", description=main.__doc__)
    except (ValueError, OSError, ImportError, training.OutOfMemory) as error:
        print(f"infobatch: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def _folder(out: Path | None, config: TrainConfig, resume: bool) -> Path:
    if out is None and resume:
        raise ValueError("--resume needs --out, the folder to go on in")
    stamp = agree(lambda: time.strftime("%Y%m%d-%H%M%S"))
    return out or Path("runs") / f"{config.recipe or f'{config.data}-{config.model}'}-{stamp}"


def _report(paths: Sequence[Path], out: Path | None = None) -> None:
    if len(paths) == 1 and (paths[0] / "compare.json").exists():
        results, default = read_comparison(paths[0]), paths[0] / "report"
    else:
        results, default = read_runs(paths), Path("runs") / time.strftime("report-%Y%m%d-%H%M%S")
    if not results.arms:
        raise FileNotFoundError("none of these runs is finished; there is nothing to report")
    page = write_report(results, out or default)
    print_results(results, console)
    console.print(f"\nThe report is {page}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
