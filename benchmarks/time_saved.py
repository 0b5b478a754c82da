"""How much of the samples left out comes back as time: training seconds saved / samples saved.

    python benchmarks/time_saved.py [--repeats N] [--json FILE]

Trains small-cnn on mnist5k (5,000 real digits) for 10 epochs, on full data and with InfoBatch, taking
turns. A pair's ratio is (1 - seconds_pruned / seconds_full) / (1 - samples_pruned / samples_full);
at 1 a sample left out saves all of its time. Limit: a mean of at least 0.95. Evaluation is off the
clock, epoch changes are on it. A first pair of one epoch each is discarded.
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

from infobatch.lab.config import TrainConfig
from infobatch.lab.data import ImageData, load_data
from infobatch.lab.runs import RunFolder, Summary
from infobatch.lab.training import train

LIMIT = 0.95
STEP_LIMIT = 5.0
"""Milliseconds; with shorter steps the fixed costs would be most of what is measured."""

CONFIG = TrainConfig(data="mnist5k", model="small-cnn", epochs=10, device="cpu")


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


def run(config: TrainConfig, data: ImageData, path: Path) -> Summary:
    folder = RunFolder(path)
    folder.create(config)
    return train(config, data, folder)


def measure_pair(data: ImageData, seed: int, epochs: float, path: Path) -> tuple[Pair, Summary]:
    """Train both; which goes first changes with the seed."""
    summaries = {}
    policies = ["none", "infobatch"] if seed % 2 == 0 else ["infobatch", "none"]
    for policy in policies:
        config = replace(CONFIG, policy=policy, seed=seed, epochs=epochs)
        summaries[policy] = run(config, data, path / policy)
    full, pruned = summaries["none"], summaries["infobatch"]
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
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats is {options.repeats}; it must be at least 1")
    data = load_data(CONFIG.data)
    pairs = []
    with tempfile.TemporaryDirectory(prefix="infobatch-time-saved-") as folder:
        measure_pair(data, 0, 1, Path(folder) / "discarded")
        for seed in range(options.repeats):
            pair, summary = measure_pair(data, seed, CONFIG.epochs, Path(folder) / str(seed))
            pairs.append(pair)
            if seed == 0:
                where = {**summary.environment, "load": round(os.getloadavg()[0], 2)}
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
    print(
        f"mean {mean:.3f}, standard deviation {spread:.3f}, {min(ratios):.3f} .. {max(ratios):.3f} "
        f"over {len(ratios)} pairs; limit {LIMIT}: {'ok' if mean >= LIMIT else 'under'}"
    )
    if step < STEP_LIMIT:
        print(f"a step takes only {step:.2f} ms, less than {STEP_LIMIT:g}: the ratio is not comparable")
    if options.json:
        rows = [{**asdict(pair), "ratio": pair.ratio} for pair in pairs]
        text = json.dumps({"environment": where, "mean": mean, "pairs": rows}, indent=2)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
