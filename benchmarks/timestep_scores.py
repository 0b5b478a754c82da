"""What a score tells of an image when its loss depends on a drawn timestep: as it is, and normalized.

    python benchmarks/timestep_scores.py [--recipe NAME] [--epochs N] [--samples N] [--draws N]
                                         [--train-samples N] [--seed N] [--data-dir DIR]
                                         [--device DEVICE] [--out FOLDER] [--json FILE]

Trains a run of a diffusion recipe on full data (one that is finished in --out is kept). Then, at fixed
weights, draws timesteps and noise anew for each training image and compares two scores of it, the loss
and the loss over what is usual at its timestep (TimestepScores):

- reliability: the variance between images over that of single scores (the intraclass correlation; Shrout
  & Fleiss, 1979, ICC(1,1)), 1 if one draw told all of an image;
- ranks: the rank correlation of a single score with the mean of the image's other normalized scores,
  and with that of its other losses;
- what the image's mean score has to do with its class (the share of the variance between images that
  lies between classes) and with its brightness (correlation with the mean pixel).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from infobatch.lab.commands.loading import load
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes import find_recipe
from infobatch.lab.runs.environment import describe_environment
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.diffusion import Diffusion
from infobatch.lab.training.train import train
from infobatch.lab.training.validate import check_run
from infobatch.scores import TimestepScores

HEADINGS = ("reliability", "ranks normalized", "ranks loss", "class", "brightness")


@dataclass(frozen=True)
class Row:
    """One score; see the module."""

    score: str
    reliability: float
    with_normalized: float
    with_loss: float
    of_class: float
    of_brightness: float


def trained(config: TrainConfig, out: Path) -> Diffusion:
    """The task with the model of the run in ``out``, which is trained unless it is finished."""
    data, folder = load(config), RunFolder(out)
    check_run(config, data)
    if not folder.exists:
        folder.create(config)
    folder.require(config)
    train(config, data, folder)
    task = Diffusion(config, data)
    folder.load_model(task.model)
    return task


@torch.no_grad()
def drawn_losses(task: Diffusion, num_samples: int, num_draws: int) -> tuple[Tensor, Tensor]:
    """Losses and timesteps of the first training images, (num_draws, num_samples) each, on the host.

    In evaluation mode, by draws that no epoch of the run had.
    """
    first = int(task.config.epochs) + 1
    losses, timesteps = [], []
    for number in range(num_draws):
        task.begin(first + number)
        for indices in np.array_split(np.arange(num_samples), -(-num_samples // task.config.batch_size)):
            inputs = task.inputs(torch.from_numpy(indices), indices)
            losses.append(task.eval_outputs(inputs).losses.cpu())
            timesteps.append(inputs[2].cpu())
    shape = (num_draws, num_samples)
    return torch.cat(losses).view(shape), torch.cat(timesteps).view(shape)


def normalized(losses: Tensor, timesteps: Tensor, num_timesteps: int, batch_size: int) -> Tensor:
    """The scores (draws, samples) of losses that come in batches, after as many have come before."""
    normalize = TimestepScores(num_timesteps)
    parts = (values.flatten().split(batch_size) for values in (losses, timesteps))
    batches = list(zip(*parts, strict=True))
    for batch in batches:
        normalize(*batch)
    return torch.cat([normalize(*batch) for batch in batches]).view_as(losses)


def reliability(scores: Tensor) -> float:
    """The variance between samples over that of single ``scores`` (draws, samples)."""
    within = scores.var(0).mean()
    between = scores.mean(0).var() - within / len(scores)
    return float(between / (between + within))


def rank_correlation(scores: Tensor, others: Tensor) -> float:
    """Of a sample's score at one draw and the mean of ``others`` at its other draws."""
    total = others.sum(0)
    found = [
        spearmanr(single, (total - other) / (len(others) - 1)).statistic
        for single, other in zip(scores, others, strict=True)
    ]
    return float(np.mean(found))


def share_of_classes(values: Tensor, labels: Tensor) -> float:
    """Of the variance of ``values`` (samples,), the share between classes beyond what chance gives.

    Omega squared (Hays, 1963); about 0 where classes do not differ.
    """
    classes = [values[labels == label] for label in labels.unique()]
    within = sum(float((part - part.mean()).square().sum()) for part in classes)
    whole = float((values - values.mean()).square().sum())
    error = within / (len(values) - len(classes))
    return (whole - within - (len(classes) - 1) * error) / (whole + error)


def row(
    name: str, scores: Tensor, others: tuple[Tensor, Tensor], labels: Tensor, brightness: Tensor
) -> Row:
    """``others``: normalized scores and losses, (draws, samples) as ``scores``."""
    means = scores.mean(0)
    return Row(
        score=name,
        reliability=reliability(scores),
        with_normalized=rank_correlation(scores, others[0]),
        with_loss=rank_correlation(scores, others[1]),
        of_class=share_of_classes(means, labels),
        of_brightness=float(torch.corrcoef(torch.stack([means, brightness]))[0, 1]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="mnist5k-ddpm")
    parser.add_argument("--epochs", type=float, help="by default the recipe's")
    parser.add_argument("--train-samples", type=int, help="train on so many images")
    parser.add_argument("--samples", type=int, default=1000, help="images scored (default 1000)")
    parser.add_argument("--draws", type=int, default=16, help="of each image (default 16)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/timestep-scores"), metavar="FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    if options.draws < 2:
        parser.error(f"--draws is {options.draws}; it must be at least 2")
    base = find_recipe(options.recipe).config()
    if base.task != "diffusion":
        parser.error(f"--recipe is {options.recipe}, of --task {base.task}; give one of diffusion")
    config = replace(
        base,
        policy="none",
        epochs=options.epochs or base.epochs,
        train_samples=options.train_samples or base.train_samples,
        seed=options.seed,
        data_dir=options.data_dir,
        device=options.device,
    )
    task = trained(config, options.out)
    num_samples = min(options.samples, len(task.data.train))
    losses, timesteps = drawn_losses(task, num_samples, options.draws)
    scores = normalized(losses, timesteps, config.diffusion.timesteps, config.batch_size)
    labels = task.data.train_labels[:num_samples].cpu()
    brightness = task.data.train.pixels[:num_samples].float().mean((1, 2, 3)).cpu()
    rows = [
        row(name, values, (scores, losses), labels, brightness)
        for name, values in (("loss", losses), ("normalized", scores))
    ]
    print(f"{num_samples:,} images of {config.data}, {options.draws} draws each, {config.model}")
    print(f"{'score':12}" + "".join(f"{heading:>17}" for heading in HEADINGS))
    for each in rows:
        name, *values = asdict(each).values()
        print(f"{name:12}" + "".join(f"{value:17.3f}" for value in values))
    if options.json:
        environment = describe_environment(task.device)
        found = {"environment": environment, "results": [asdict(each) for each in rows]}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
