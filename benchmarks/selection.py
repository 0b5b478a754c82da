"""What deciding an epoch's selection costs beside the epoch's training, for every policy.

    python benchmarks/selection.py [--json FILE] [--only POLICY ...] [--samples N ...] [--repeats N]
                                   [--steps N] [--recipe NAME] [--rate IMAGES_A_SECOND]
                                   [--target SHARE]

Keep probabilities and draw of a policy, with scores like those of a training under way, against the
time that full data of as many samples takes to train: at the rate measured in the same process with the
recipe's network on random images (cifar10-resnet8), and at a rate that is given for reference. Limit:
1 % of the epoch at the measured rate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infobatch import DynamicPruner, InfoBatch
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import ImageData, Images
from infobatch.lab.devices import resolve_device
from infobatch.lab.recipes import find_recipe
from infobatch.lab.runs.environment import describe_environment
from infobatch.lab.tasks.classification import Classification
from infobatch.lab.training.optimization import Optimization
from infobatch.policies import POLICIES, Policy, Request, takes
from infobatch.scores import ScoreTable
from infobatch.scores.columns import COLUMNS
from infobatch.seeding import epoch_generator
from infobatch.selection import select

SAMPLES = (5_000, 50_000, 1_281_167)  # small sets, CIFAR, ImageNet-1k
EPOCHS = range(1, 175)  # prunable ones of a run of 200
RECORD_BATCH = 256
SEED = 0
LIMIT = 1.0
"""Percent."""
RATE = 2_500.0
"""Images a second: about ResNet-50 on one A100."""


@dataclass(frozen=True)
class Result:
    """One policy on one number of samples: milliseconds of a selection, middle half ``low``..``high``.

    ``measured`` and ``given``: in percent of an epoch of full data, at the rate measured or given.
    """

    policy: str
    num_samples: int
    milliseconds: float
    low: float
    high: float
    measured: float
    given: float

    @property
    def verdict(self) -> str:
        return "ok" if self.measured <= LIMIT else "over"


def scores_of(num_samples: int, num_epochs: int = 3) -> ScoreTable:
    """All columns after some epochs, recorded in batches: a sample's losses vary about one of its own.

    Log-normal, as losses often are; in the last epoch a third of the samples was left out.
    """
    table = ScoreTable(num_samples, list(COLUMNS))
    rng = np.random.default_rng(SEED)
    own = rng.normal(-1, 1.5, num_samples)
    for epoch in range(num_epochs):
        order = rng.permutation(num_samples)
        order = order[: num_samples * 2 // 3] if epoch + 1 == num_epochs else order
        for batch in np.array_split(order, -(-len(order) // RECORD_BATCH)):
            losses = np.exp(own[batch] + rng.normal(0, 0.5, len(batch))).astype(np.float32)
            table.record(batch, losses, *([1 - np.exp(-losses)] * len(table.signals)))
    return table


def time_selection(
    name: str, table: ScoreTable, target: float, repeats: int, rates: tuple[float, float]
) -> Result:
    """Of epochs one after another, the first of which is discarded."""
    num_samples = len(table)
    policy = _made(name, num_samples)
    seconds = []
    for epoch in range(EPOCHS.start, EPOCHS.start + repeats + 1):
        generator = epoch_generator(SEED, epoch, 1)
        num_pruned = None if name == "none" else round(target * num_samples)
        request = Request(num_pruned, generator, epoch, EPOCHS)
        began = time.perf_counter()
        selection = select(policy, table, request)
        seconds.append(time.perf_counter() - began)
        assert selection.num_selected == num_samples - (num_pruned or 0)
    low, median, high = statistics.quantiles(seconds[1:], n=4, method="inclusive")
    shares = [100 * median * rate / num_samples for rate in rates]
    return Result(name, num_samples, 1e3 * median, 1e3 * low, 1e3 * high, *shares)


def _made(name: str, num_samples: int) -> Policy:
    """The policy at its defaults; of ten classes, or with scores, where it asks for them."""
    samples = torch.arange(num_samples)
    known = {"labels": samples % 10, "scores": samples}
    make: Callable[..., Policy] = POLICIES[name]
    return make(**{option: values for option, values in known.items() if takes(name, option)})


def images_a_second(config: TrainConfig, num_steps: int) -> float:
    """Of training, by the median of ``num_steps`` steps after three that are discarded."""
    rng = np.random.default_rng(SEED)
    num_images = 4 * config.batch_size
    pixels = torch.from_numpy(rng.integers(0, 256, (num_images, 3, 32, 32), dtype=np.uint8))
    images = Images(pixels, torch.from_numpy(rng.integers(0, 10, num_images)))
    data = ImageData("random", images, images, tuple("0123456789"), crop_padding=4, flip=True)
    task = Classification(config, data)
    # More steps than are taken.
    pruner = DynamicPruner(task.feed.dataset, num_steps, policy=InfoBatch(), seed=SEED)
    loader = pruner.loader(config.batch_size, collate_fn=task.feed.collate, drop_last=True)
    optimization = Optimization(config, task.model, pruner)
    seconds: list[float] = []
    for epoch in pruner.epochs():
        task.begin(epoch)
        for samples, inputs in loader:
            began = time.perf_counter()
            optimization.step(pruner.update(task.losses(inputs, samples), samples))
            if task.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
            if len(seconds) == num_steps + 3:
                return config.batch_size / statistics.median(seconds[3:])
    raise AssertionError("a run of so many epochs has more steps")


def print_table(results: Sequence[Result], measured: float, given: float) -> None:
    print(f"\n{'':24} {'samples':>10} {'ms':>9} {'middle half':>19}  % of an epoch at", end="")
    print(f" {measured:,.0f} {given:>9,.0f} images/s", flush=True)
    for r in results:
        print(
            f"{r.policy:24} {r.num_samples:>10,} {r.milliseconds:>9.2f} {r.low:>8.2f} .. {r.high:<8.2f}"
            f" {r.measured:>16.3f}  {r.verdict:4} {r.given:>8.3f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--only", nargs="+", choices=POLICIES, default=list(POLICIES), metavar="POLICY")
    parser.add_argument("--samples", nargs="+", type=int, default=list(SAMPLES), metavar="N")
    parser.add_argument("--repeats", type=int, default=9, help="selections of each (default 9)")
    parser.add_argument("--steps", type=int, default=30, help="steps of training (default 30)")
    parser.add_argument("--recipe", default="cifar10-resnet8", help="of images of 32 pixels")
    parser.add_argument("--rate", type=float, default=RATE, help=f"images/s (default {RATE:g})")
    parser.add_argument("--target", type=float, default=0.3, help="left out of an epoch (default 0.3)")
    options = parser.parse_args()
    least: dict[str, Callable[[Any], bool]] = {
        "samples": lambda numbers: min(numbers) >= 100,
        "repeats": lambda number: number >= 2,
        "steps": lambda number: number >= 1,
        "rate": lambda number: number > 0,
        "target": lambda number: 0 < number < 1,
    }
    for name, holds in least.items():
        if not holds(getattr(options, name)):
            parser.error(f"--{name} is {getattr(options, name)}; it is too small or too large")
    config = find_recipe(options.recipe).config()
    measured = images_a_second(config, options.steps)
    where = {
        **describe_environment(resolve_device(config.device)),
        "recipe": f"{options.recipe} ({config.model}, batch {config.batch_size}, {config.precision})",
        "images a second": round(measured, 1),
        "given": options.rate,
        "target": options.target,
        "seed": SEED,
    }
    print(", ".join(f"{name} {value}" for name, value in where.items()), flush=True)
    results = []
    rates = (measured, options.rate)
    for num_samples in options.samples:
        table = scores_of(num_samples)
        for name in options.only:
            print(f"measuring: {name}, {num_samples:,}", file=sys.stderr, flush=True)
            results.append(time_selection(name, table, options.target, options.repeats, rates))
    print_table(results, measured, options.rate)
    if options.json:
        rows = [{**asdict(r), "verdict": r.verdict} for r in results]
        text = json.dumps({"environment": where, "repeats": options.repeats, "results": rows}, indent=2)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
