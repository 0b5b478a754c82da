"""How much of a sample's score is the sample's, and how much the noise of a mask, a step or a crop.

    python benchmarks/score_noise.py [--recipe NAME] [--epochs N] [--train-samples N] [--run FOLDER]
                                     [--samples N] [--draws K] [--data-dir DIR] [--device DEVICE]
                                     [--json FILE]

A short run is trained on full data, or the model of a finished one is taken. At its weights, which stay
as they are, each sample is then given K fresh draws of its randomness, those of K epochs that no run
reaches, and scored in each. The variance of the scores is split, as for a random effect: between
samples, of their expected scores, and within, over draws. The reliability of a score is the share
between / (between + within): 1 where it is all the sample's, 0 where a policy would go by noise.

For v visits the table gives the reliability of the single score (v = 1), of the running mean that
policies may go by (`by=smoothed_loss`) and of the plain mean; and the rank correlation of the running
mean with the mean of the draws that it has not seen. A model that learns moves the scores, too: what a
running mean gains here it loses in part by lagging behind.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from infobatch.lab.commands.loading import load
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.recipes import find_recipe
from infobatch.lab.runs.environment import describe_environment
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.base import Task
from infobatch.lab.tasks.registry import TASKS
from infobatch.lab.training.train import train
from infobatch.lab.training.validate import check_config, check_run
from infobatch.scores.columns import SMOOTHING, smoothed


@dataclass(frozen=True)
class Row:
    """Of the score after so many visits. ``rank_correlation``: none once all draws are seen."""

    visits: int
    reliability: float
    of_plain_mean: float
    rank_correlation: float | None


def draw(task: Task, samples: np.ndarray, first_epoch: int, num_draws: int) -> np.ndarray:
    """The scores of ``samples`` (n,) in that many epochs from ``first_epoch`` on: (num_draws, n).

    In evaluation mode, in batches of the run's size, which are the same in each epoch.
    """
    size, draws = task.config.batch_size, []
    for epoch in range(first_epoch, first_epoch + num_draws):
        task.begin(epoch)
        scores = []
        for start in range(0, len(samples), size):
            part = samples[start : start + size]
            batch = task.feed.collate([task.feed.dataset[i] for i in part.tolist()])
            outputs = task.eval_outputs(task.inputs(batch, part))
            score = outputs.recorded.double()
            scores.append(score if outputs.scored is None else score.where(outputs.scored, torch.nan))
        draws.append(torch.cat(scores))
    return torch.stack(draws).cpu().numpy()


def variances(draws: np.ndarray) -> tuple[float, float]:
    """Between samples and within one, unbiased, of ``draws`` (K, n): a one-way analysis of variance."""
    within = float(draws.var(axis=0, ddof=1).mean())
    between = float(draws.mean(axis=0).var(ddof=1)) - within / len(draws)
    return max(between, 0.0), within


def table(draws: np.ndarray) -> list[Row]:
    """A row for 1 to K visits."""
    between, within = variances(draws)
    rows = []
    mean, shares = np.full(draws.shape[1], np.nan), np.zeros(0)
    for visits in range(1, len(draws) + 1):
        mean = smoothed(mean, draws[visits - 1])
        shares = np.append(shares * SMOOTHING, 1 - SMOOTHING) if visits > 1 else np.ones(1)
        unseen = draws[visits:]
        correlation = None
        if len(unseen):
            correlation = float(stats.spearmanr(mean, unseen.mean(axis=0)).statistic)
        rows.append(
            Row(
                visits,
                _share(between, within * float((shares**2).sum())),
                _share(between, within / visits),
                correlation,
            )
        )
    return rows


def _share(between: float, within: float) -> float:
    return between / (between + within) if between + within else 1.0


def trained(options: argparse.Namespace) -> tuple[TrainConfig, Data, Task]:
    """The task of a finished run, or of one that is trained for it, with that run's model."""
    with tempfile.TemporaryDirectory() as made:
        folder = RunFolder(options.run or Path(made))
        config = folder.config() if options.run else find_recipe(options.recipe).config()
        config = replace(config, data_dir=options.data_dir or config.data_dir, device=options.device)
        if not options.run:
            config = replace(config, policy="none", epochs=options.epochs, eval_every=10**6)
            if options.train_samples:
                config = replace(config, train_samples=options.train_samples)
        config = replace(config, compile=False)
        check_config(config)
        data = load(config)
        check_run(config, data)
        if not options.run:
            folder.create(config)
            train(config, data, folder)
        folder.summary()  # says so if the run has not finished
        task = TASKS[config.task].load()(config, data)
        folder.load_model(task.model)
    return config, data, task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="cifar10-mae-tiny")
    parser.add_argument("--epochs", type=float, default=3, help="of that run (default 3)")
    parser.add_argument("--train-samples", type=int, default=0, help="as for `infobatch train`")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="of a finished run, in its place")
    parser.add_argument("--samples", type=int, default=2000, help="that are scored (default 2000)")
    parser.add_argument("--draws", type=int, default=10, help="of each (default 10)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    if options.draws < 2:
        parser.error(f"--draws is {options.draws}; it must be at least 2, to compare them")
    if options.samples < 2:
        parser.error(f"--samples is {options.samples}; it must be at least 2")
    config, data, task = trained(options)
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    samples = chosen[: options.samples].sort().values.numpy()
    draws = draw(task, samples, int(np.ceil(config.epochs)) + 1, options.draws)
    scored = np.isfinite(draws).all(axis=0)
    draws = draws[:, scored]
    between, within = variances(draws)
    rows = table(draws)
    result: dict[str, Any] = {
        "task": config.task,
        "data": config.data,
        "model": config.model,
        "epochs": config.epochs,
        "samples": int(scored.sum()),
        "draws": options.draws,
        "mean": float(draws.mean()),
        "between": between,
        "within": within,
        "rows": [asdict(row) for row in rows],
        "environment": describe_environment(task.device),
    }
    print(
        f"{config.task}, {config.model} on {config.data} after {config.epochs:g} epochs: scores of "
        f"{scored.sum():,} samples, {options.draws} draws each\n"
        f"mean {draws.mean():.4f}, deviation between samples {between**0.5:.4f}, "
        f"within {within**0.5:.4f}\n"
    )
    print(f"{'visits':>6} {'running mean':>14} {'plain mean':>12} {'rank correlation':>18}")
    for row in rows:
        correlation = "" if row.rank_correlation is None else f"{row.rank_correlation:.3f}"
        print(f"{row.visits:6} {row.reliability:14.3f} {row.of_plain_mean:12.3f} {correlation:>18}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
