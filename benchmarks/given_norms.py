"""What a budget leaves out, and how noisy that is, by norms from losses and by norms that are given.

    python benchmarks/given_norms.py [--recipe NAME] [--epochs N] [--seeds N] [--data-dir DIR]
                                     [--json FILE]

Trains a classifier of a table's rows by four losses: cross-entropy, with class weights that make classes
count alike, with label smoothing of 0.1, and the focal loss with gamma 2. Each is trained on full data
and under a budget of 1.1, which takes norms of gradients from the losses, or is given those of
output_gradient_norms. The noise that was is in both cases that of the given norms: for each pruned epoch
the second moment of a step relative to full data; the table has means over epochs and seeds. A result is
the mean of the loss that was trained, on the test set.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from infobatch import DynamicPruner, NoiseBudget, NoPruning, classification_losses, output_gradient_norms
from infobatch.lab.commands.loading import load
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.processes import replicas
from infobatch.lab.recipes import find_recipe
from infobatch.lab.runs.environment import describe_environment
from infobatch.lab.tasks.base import Task
from infobatch.lab.tasks.registry import TASKS
from infobatch.noise import noise_of, noise_sums

MAX_NOISE = 1.1
WAYS = ("full data", "from losses", "given")

LossFunction = Callable[[Tensor, Tensor], Tensor]


def loss_functions(labels: Tensor) -> dict[str, LossFunction]:
    """The losses by name, with class weights by the ``labels`` of the training set, int64 (N,)."""
    counts = labels.bincount()
    balanced = len(labels) / (len(counts) * counts)

    def focal(logits: Tensor, labels: Tensor) -> Tensor:
        losses = classification_losses(logits, labels)
        return (1 - torch.exp(-losses)) ** 2 * losses

    return {
        "cross-entropy": classification_losses,
        "class weights": lambda logits, labels: classification_losses(
            logits, labels, class_weights=balanced
        ),
        "label smoothing": lambda logits, labels: classification_losses(
            logits, labels, label_smoothing=0.1
        ),
        "focal": focal,
    }


@dataclass(frozen=True)
class Run:
    """``noise``: told by the report, None if it has none, and ``noise_that_was``, by given norms."""

    loss: str
    way: str
    seed: int
    result: float
    saved: float
    noise: float | None
    noise_that_was: float | None


def train(config: TrainConfig, data: Data, loss: str, losses_of: LossFunction, way: str) -> Run:
    """One run; its seed is the options'."""
    torch.manual_seed(config.seed)
    task = TASKS[config.task].load()(config, data)
    policy = NoPruning() if way == "full data" else NoiseBudget(max_noise=MAX_NOISE)
    pruner = DynamicPruner(task.feed.dataset, config.epochs, policy=policy, seed=config.seed)
    loader = pruner.loader(config.batch_size, collate_fn=task.feed.collate)
    optimizer = torch.optim.AdamW(task.model.parameters(), config.lr, weight_decay=config.weight_decay)
    scheduler = pruner.lr_scheduler(OneCycleLR(optimizer, config.lr, total_steps=pruner.full_steps))
    noises = []
    for _ in pruner.epochs():
        sums = np.zeros(2)
        for indices, batch in loader:
            *inputs, labels = task.inputs(batch, indices)
            logits = task.model(*inputs)
            losses = losses_of(logits, labels)
            norms = output_gradient_norms(losses, logits)
            sums += noise_sums(norms.numpy(), pruner.selection.weights[indices].numpy())
            given = {"gradient_norms": norms} if way == "given" else {}
            pruner.update(losses, indices, **given).backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        if pruner.current.num_selected < pruner.num_samples:
            noises.append(noise_of(sums))
    report = pruner.report()
    was = fmean(noises) if noises else None
    return Run(loss, way, config.seed, tested(task, losses_of), report.saved, report.noise, was)


@torch.no_grad()
def tested(task: Task, losses_of: LossFunction) -> float:
    """The mean loss on the test set."""
    task.model.eval()
    losses = []
    for _, (*inputs, labels) in task.feed.test_batches(replicas()):
        losses.append(losses_of(task.model(*inputs), labels))
    return float(torch.cat(losses).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="flights-mlp")
    parser.add_argument("--epochs", type=float, help="by default the recipe's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    config = find_recipe(options.recipe).config()
    epochs = options.epochs or config.epochs
    config = replace(config, epochs=epochs, data_dir=options.data_dir, device="cpu")
    data, runs = load(config), []
    for loss, losses_of in loss_functions(data.train.labels).items():
        for seed in range(options.seeds):
            for way in WAYS:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message="the losses look like")
                    runs.append(train(replace(config, seed=seed), data, loss, losses_of, way))
        print(table([run for run in runs if run.loss == loss]), flush=True)
        if options.json:
            environment = describe_environment(torch.device("cpu"))
            results = [asdict(run) for run in runs]
            options.json.write_text(
                json.dumps({"environment": environment, "results": results}, indent=1)
            )


def table(runs: list[Run]) -> str:
    """A line for each way to train by one loss."""
    lines = []
    for way in WAYS:
        mine = [run for run in runs if run.way == way]
        saved = f"{100 * fmean(run.saved for run in mine):.1f} % left out"
        told, was = ([getattr(run, name) for run in mine] for name in ("noise", "noise_that_was"))
        noise = "" if None in told else f"noise told {fmean(told):.2f}, was {fmean(was):.2f}"
        results = ", ".join(f"{run.result:.4f}" for run in mine)
        lines.append(f"{mine[0].loss:16}{way:12}{saved:18}{noise:28}{results}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
