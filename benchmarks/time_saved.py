"""How much of the samples left out comes back as time: training seconds saved / samples saved.

    python benchmarks/time_saved.py [--recipe NAME] [--model NAME] [--epochs N] [--batch-size N]
                                    [--data-dir DIR] [--device DEVICE] [--policy SPEC] [--save PERCENT]
                                    [--shrink steps|batches] [--repeats N] [--json FILE]

Trains a recipe (mnist5k-small-cnn: 5,000 real digits, 10 epochs) on full data and with a policy
(infobatch), taking turns. With --shrink batches pruned epochs have as many steps as full data, of
smaller batches, and no limit is set: how far the time of a step follows its batch depends on the model
and the device. A pair's ratio is (1 - seconds_pruned / seconds_full) / (1 - samples_pruned /
samples_full); at 1 a sample left out saves all of its time. Limit: a mean of at least 0.97. Evaluation
is off the clock, epoch changes are on it. A first pair of one epoch each is discarded. Where the mean's
standard error exceeds 0.03, other work was in the way, and there is no verdict.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from infobatch.lab.commands.loading import load
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.recipes import find_recipe
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.runs.records import Summary
from infobatch.lab.training.train import train

LIMIT = 0.97
LARGEST_ERROR = 0.03
STEP_LIMIT = 5.0
"""Milliseconds; with shorter steps the fixed costs would be most of what is measured."""


@dataclass(frozen=True)
class Pair:
    """A full run and a pruned one of the same seed: seconds, samples, milliseconds a step."""

    seed: int
    seconds_full: float
    seconds_pruned: float
    samples_saved: float
    step_full: float
    step_pruned: float

    @property
    def seconds_saved(self) -> float:
        return 1 - self.seconds_pruned / self.seconds_full

    @property
    def ratio(self) -> float:
        return self.seconds_saved / self.samples_saved


def run(config: TrainConfig, data: Data, path: Path) -> Summary:
    folder = RunFolder(path)
    folder.create(config)
    return train(config, data, folder)


def measure_pair(base: TrainConfig, data: Data, seed: int, path: Path) -> tuple[Pair, Summary]:
    """Train both; which goes first changes with the seed."""
    configs = {
        "full": replace(base, policy="none", target=None, shrink="auto", seed=seed),
        "pruned": replace(base, seed=seed),
    }
    names = list(configs) if seed % 2 == 0 else list(configs)[::-1]
    summaries = {name: run(configs[name], data, path / name) for name in names}
    full, pruned = summaries["full"], summaries["pruned"]
    pair = Pair(
        seed,
        full.seconds,
        pruned.seconds,
        1 - pruned.num_trained / full.num_trained,
        1e3 * full.seconds / full.num_steps,
        1e3 * pruned.seconds / pruned.num_steps,
    )
    return pair, full


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="mnist5k-small-cnn")
    parser.add_argument("--model", help="by default the recipe's")
    parser.add_argument("--epochs", type=float, help="by default the recipe's")
    parser.add_argument("--batch-size", type=int, help="by default the recipe's")
    parser.add_argument("--policy", default="infobatch")
    parser.add_argument("--save", type=float, metavar="PERCENT", help="by default what the policy saves")
    parser.add_argument("--shrink", default="steps", choices=["steps", "batches"])
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats is {options.repeats}; it must be at least 1")
    base = find_recipe(options.recipe).config()
    base = replace(base, data_dir=options.data_dir, device=options.device)
    base = replace(
        base,
        model=options.model or base.model,
        epochs=options.epochs or base.epochs,
        batch_size=options.batch_size or base.batch_size,
        policy=options.policy,
        shrink=options.shrink,
        target=options.save and options.save / 100,
    )
    data = load(base)
    pairs = []
    with tempfile.TemporaryDirectory(prefix="infobatch-time-saved-") as folder:
        measure_pair(replace(base, epochs=1, target=None), data, 0, Path(folder) / "discarded")
        for seed in range(options.repeats):
            pair, summary = measure_pair(base, data, seed, Path(folder) / str(seed))
            pairs.append(pair)
            if seed == 0:
                where = {
                    "recipe": options.recipe,
                    "model": base.model,
                    "policy": options.policy,
                    "shrink": options.shrink,
                    "batch": base.batch_size,
                    **summary.environment,
                    "load": round(os.getloadavg()[0], 2),
                }
                print(", ".join(f"{name} {value}" for name, value in where.items()))
            print(
                f"seed {seed}: {pair.seconds_full:.2f} s -> {pair.seconds_pruned:.2f} s, "
                f"{pair.seconds_saved:.1%} of the time for {pair.samples_saved:.1%} of the samples: "
                f"{pair.ratio:.3f}; a step takes {pair.step_full:.2f} ms -> {pair.step_pruned:.2f} ms",
                flush=True,
            )
    ratios = [pair.ratio for pair in pairs]
    mean, step = statistics.mean(ratios), statistics.median(pair.step_full for pair in pairs)
    spread = statistics.stdev(ratios) if len(ratios) > 1 else math.nan
    certain = spread / math.sqrt(len(ratios)) <= LARGEST_ERROR  # false for a single pair, too
    verdict = "too noisy to say" if not certain else "ok" if mean >= LIMIT else "under"
    if certain and options.shrink == "batches":
        verdict = "no limit"
    print(
        f"mean {mean:.3f}, standard deviation {spread:.3f}, {min(ratios):.3f} .. {max(ratios):.3f} "
        f"over {len(ratios)} pairs; limit {LIMIT}: {verdict}"
    )
    if step < STEP_LIMIT:
        print(f"a step takes only {step:.2f} ms, less than {STEP_LIMIT:g}: the ratio is not comparable")
    if options.json:
        rows = [{**asdict(pair), "ratio": pair.ratio} for pair in pairs]
        text = json.dumps(
            {"environment": where, "mean": mean, "verdict": verdict, "pairs": rows}, indent=2
        )
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
