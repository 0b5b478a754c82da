"""How often fewer seeds would have come to the same verdict.

    python benchmarks/fewer_seeds.py [--seeds 4] [--margin 0.001] [--lower-is-better] RUNS.json

Reads the runs.json of a comparison with one pruned arm. For every choice of so many of its seeds:
whether pruning is lossless, and the p of each rival at equal cost (paired t test, Holm's correction).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections import defaultdict
from pathlib import Path

from infobatch.lab.report.paired import Difference, holm, judge, p_of
from infobatch.lab.tasks.metrics import Metric

FULL, PRUNED = "full", "pruned"


def read(path: Path) -> dict[str, dict[int, float]]:
    """The results of each arm by seed."""
    results: dict[str, dict[int, float]] = defaultdict(dict)
    for run in json.loads(path.read_text())["runs"]:
        results[run["arm"].rsplit("/")[-1]][run["seed"]] = run["result"]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, metavar="RUNS.json")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--margin", type=float, default=0.001)
    parser.add_argument("--lower-is-better", action="store_true")
    options = parser.parse_args()
    results, metric = read(options.path), Metric("result", "", not options.lower_is_better)
    rivals = [name for name in results if name not in (FULL, PRUNED)]
    num_lossless, p_values = 0, defaultdict(list)
    choices = list(itertools.combinations(sorted(results[FULL]), options.seeds))
    for seeds in choices:

        def gains(over: str, seeds: tuple[int, ...] = seeds) -> list[float]:
            return [metric.gain(results[PRUNED][seed] - results[over][seed]) for seed in seeds]

        to_full = Difference.of_pairs(gains(FULL))
        num_lossless += judge(to_full, options.margin) == "lossless"
        corrected = holm([p_of(gains(rival)) for rival in rivals])
        for rival, p in zip(rivals, corrected, strict=True):
            is_ahead = sum(gains(rival)) > 0 and not math.isnan(p)  # NaN: no spread to judge by
            p_values[rival].append(p if is_ahead else 1.0)
    print(f"{len(choices)} choices of {options.seeds} seeds: lossless in {num_lossless}")
    for rival, values in p_values.items():
        below = sum(p < 0.01 for p in values)
        print(f"  ahead of {rival}: p < 0.01 in {below}, largest p {max(values):.4f}")


if __name__ == "__main__":
    main()
