"""How often fewer seeds would have come to the same verdict.

    python benchmarks/fewer_seeds.py [--seeds 4] [--margin 0.001] [--lower-is-better] RUNS.json

Reads the runs.json of a comparison with one pruned arm. For every choice of so many of its seeds:
whether pruning is lossless, and the p of each rival at equal cost (paired t test, Holm's correction).
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections import defaultdict
from pathlib import Path

from scipy import stats

from infobatch.lab.report.arms import half_interval
from infobatch.lab.report.paired import holm

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
    results, sign = read(options.path), -1 if options.lower_is_better else 1
    rivals = [name for name in results if name not in (FULL, PRUNED)]
    num_lossless, p_values = 0, defaultdict(list)
    choices = list(itertools.combinations(sorted(results[FULL]), options.seeds))
    for seeds in choices:

        def gains(over: str, seeds: tuple[int, ...] = seeds) -> list[float]:
            return [sign * (results[PRUNED][seed] - results[over][seed]) for seed in seeds]

        to_full = gains(FULL)
        num_lossless += statistics.fmean(to_full) - half_interval(to_full) > -options.margin
        tests = [stats.ttest_1samp(gains(rival), 0) for rival in rivals]
        for rival, test, p in zip(rivals, tests, holm([t.pvalue for t in tests]), strict=True):
            p_values[rival].append(p if test.statistic > 0 else 1.0)
    print(f"{len(choices)} choices of {options.seeds} seeds: lossless in {num_lossless}")
    for rival, values in p_values.items():
        below = sum(p < 0.01 for p in values)
        print(f"  ahead of {rival}: p < 0.01 in {below}, largest p {max(values):.4f}")


if __name__ == "__main__":
    main()
