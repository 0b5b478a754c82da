"""The command line: plain functions with typed signatures; `infobatch COMMAND --help` shows them."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

try:
    import tyro
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
except ImportError as error:
    raise SystemExit(
        f"infobatch: the command line needs {error.name}: pip install 'infobatch[lab]'"
    ) from error

from infobatch.export import read_scores
from infobatch.lab import training
from infobatch.lab.compare import Comparison, run_comparison
from infobatch.lab.config import TrainConfig
from infobatch.lab.data import load_data
from infobatch.lab.report import print_results, read_comparison, read_runs, write_report
from infobatch.lab.runs import RunFolder, Summary
from infobatch.lab.tasks.classification import Classification
from infobatch.policies import InfoBatch
from infobatch.saving import predict_saving
from infobatch.schedule import Schedule

Options = Annotated[TrainConfig, tyro.conf.arg(name="")]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
Paths = tyro.conf.Positional[tuple[Path, ...]]

console = Console()


def train(config: Options, out: OptionalPath = None, resume: bool = False) -> None:
    """Train one run and leave its folder.

    Args:
        config: The run.
        out: Folder of the run; by default a new one under runs/.
        resume: Go on with the unfinished run in --out, with the options it was started with.
    """
    folder = RunFolder(_folder(out, config, resume))
    if resume:
        config = _saved_options(config, folder.config())
    config.check()
    data = load_data(config.data, config.data_dir)
    training.check(config, data)
    if not resume:
        folder.create(config)
    with _interruptible("train", folder.path) as (progress, should_stop):
        task = progress.add_task("training", total=1)

        def watch(done: training.Progress) -> None:
            progress.update(task, completed=done.fraction, description=_describe(done))

        summary = training.train(config, data, folder, watch, should_stop)
    _print_summary(summary)
    if summary.saved == 0 and config.policy != "none":
        console.print("No epoch was prunable: the first is warm-up, and the last anneals.")
    console.print(f"The run is in {folder.path}", highlight=False, soft_wrap=True)


def compare(
    config: Options,
    seeds: int = 5,
    margin: float = 0.5,
    out: OptionalPath = None,
    resume: bool = False,
) -> None:
    """Compare pruning with full data, and with fewer epochs and random pruning at the same cost.

    Args:
        config: The pruned run; the other arms are derived from it.
        seeds: Runs of each arm, with seeds from --seed on.
        margin: Accuracy points that may be lost for the verdict "lossless".
        out: Folder of the comparison; by default a new one under runs/.
        resume: Go on with the unfinished comparison in --out, with the options it was started with.
    """
    comparison = Comparison(config, seeds, margin, _folder(out, config, resume))
    if resume:
        comparison = Comparison.load(comparison.path)
        _saved_options(config, comparison.config)
    comparison.check()
    data = load_data(comparison.config.data, comparison.config.data_dir)
    training.check(comparison.config, data)
    if not resume:
        comparison.create()
    runs = list(comparison.runs())
    with _interruptible("compare", comparison.path) as (progress, should_stop):
        task = progress.add_task("training", total=len(runs))

        def watch(arm: str, seed: int, done: training.Progress | None) -> None:
            place = runs.index((arm, seed))
            if done is not None:
                text = f"seed {seed}, {arm}: {_describe(done)}"
                progress.update(task, completed=place + done.fraction, description=text)
                return
            summary = comparison.folder(arm, seed).summary()
            progress.update(task, completed=place + 1)
            progress.console.print(f"seed {seed}  {arm:12}  {_one_line(summary)}", highlight=False)

        run_comparison(comparison, data, watch, should_stop)
    results = read_comparison(comparison.path)
    page = write_report(results, comparison.path / "report")
    print_results(results, console)
    console.print(f"\nThe report is {page}", highlight=False, soft_wrap=True)


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
    config = folder.config()
    folder.summary()
    values = {**config.to_json(), "device": device}
    config = TrainConfig.from_json({**values, "data_dir": data_dir or config.data_dir})
    data = load_data(config.data, config.data_dir)
    task = Classification(config, data)
    folder.load_model(task.model)
    result = task.evaluate()
    console.print(f"accuracy {result.accuracy:.2f} %, loss {result.loss:.4f}", highlight=False)
    for name, accuracy in zip(data.class_names, result.per_class, strict=True):
        console.print(f"  class {name}: {accuracy:.2f} %", highlight=False)


def report(runs: Paths, out: OptionalPath = None) -> None:
    """Draw finished runs, or a comparison's, together: table, plots and one HTML page.

    Args:
        runs: Folders of runs, or of one comparison.
        out: Folder to write into; by default report/ in the comparison's folder, or a new one.
    """
    if len(runs) == 1 and (runs[0] / "compare.json").exists():
        results, default = read_comparison(runs[0]), runs[0] / "report"
    else:
        results, default = read_runs(runs), Path("runs") / time.strftime("report-%Y%m%d-%H%M%S")
    if not results.arms:
        raise FileNotFoundError("none of these runs is finished; there is nothing to report")
    page = write_report(results, out or default)
    print_results(results, console)
    console.print(f"\nThe report is {page}", highlight=False, soft_wrap=True)


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
    "eval": evaluate,
    "report": report,
    "predict": predict,
}


def main() -> None:
    """Unbiased dynamic data pruning: train, compare and report."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="infobatch",
            description=main.__doc__,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except (ValueError, OSError, ImportError) as error:
        print(f"infobatch: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def _folder(out: Path | None, config: TrainConfig, resume: bool) -> Path:
    if out is None and resume:
        raise ValueError("--resume needs --out, the folder to go on in")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return out or Path("runs") / f"{config.data}-{config.model}-{stamp}"


def _saved_options(given: TrainConfig, saved: TrainConfig) -> TrainConfig:
    """The options a run was started with; refuses others given now."""
    defaults = TrainConfig()
    for name, (now, then) in given.differences(saved).items():
        if now != getattr(defaults, name):
            flag = "--" + name.replace("_", "-")
            raise ValueError(
                f"{flag} is {now}, but the run was started with {then}; leave it out to go on, or "
                "start another run"
            )
    return saved


@contextmanager
def _interruptible(command: str, path: Path) -> Iterator[tuple[Progress, Callable[[], bool]]]:
    """Live progress, and Ctrl-C answered at the next step boundary."""
    columns = (
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(compact=True),
        TextColumn("left, {task.description}"),
    )
    try:
        with (
            Progress(*columns, console=console, transient=True) as progress,
            training.stop_on_interrupt() as should_stop,
        ):
            yield progress, should_stop
    except training.Interrupted as stopped:
        resume = shlex.join(["infobatch", command, "--out", str(path), "--resume"])
        console.print(f"Stopped at a step boundary. To go on: {resume}", soft_wrap=True)
        raise SystemExit(130) from stopped


def _describe(done: training.Progress) -> str:
    metrics = done.metrics
    kept = metrics.num_kept / metrics.num_samples
    return f"epoch {metrics.epoch + 1}, {kept:.0%} kept, test {metrics.test_accuracy:.2f} %"


def _one_line(summary: Summary) -> str:
    return (
        f"{summary.accuracy:.2f} %  {summary.num_trained:,} samples  {summary.num_steps:,} steps  "
        f"{summary.seconds:.1f} s"
    )


def _print_summary(summary: Summary) -> None:
    text = f"accuracy {_one_line(summary)}  {summary.saved:.1%} left out"
    if summary.num_nonfinite:
        text += f"  {summary.num_nonfinite:,} losses were NaN or infinite"
    console.print(text, highlight=False)


if __name__ == "__main__":
    main()
