"""Results of several ways to train, from the files of one benchmark, in one table with p-values.

    python benchmarks/paired_table.py FILE.json [FILE.json ...] --against NAME [NAME ...] [--only TEXT]

The files are those that forms.py and parts.py write by --json, or runs.json of a comparison's report,
of other seeds or machines. Where such a report has one
label for the controls of several policies, ways are called by their folders, as in
noise-budget-max_noise-1.1/fewer-epochs. Each way is paired with each of those named, over the seeds
that both have, which have to be two at least. No seed may have two results that differ.

p is of a paired t test, after Holm's correction over the whole table, which --only limits to the ways
that have TEXT in their names.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infobatch.lab.report.arms import half_interval
from infobatch.lab.report.paired import holm, p_of, p_text

Results = dict[str, dict[int, float]]
"""By the name of a way to train, and by seed."""


def read(paths: Sequence[Path]) -> tuple[str, Results]:
    """The metric and the results of all files. ``ValueError`` where a seed has none, or two."""
    metrics, results = set(), Results()
    for path in paths:
        found = json.loads(path.read_text())
        metrics.add(found["metric"] if "metric" in found else _metric_of_report(found))
        for name, seed, result in listed(found):
            if result is None:
                raise ValueError(
                    f"{path}: {name!r} has no number for seed {seed}, whose run diverged; take that "
                    "way out of the file"
                )
            if results.setdefault(name, {}).setdefault(seed, result) != result:
                raise ValueError(f"{path}: {name!r} has another result of seed {seed} already")
    if len(metrics) != 1:
        raise ValueError(f"the files have the metrics {', '.join(sorted(metrics))}; give files of one")
    return metrics.pop(), results


def listed(found: dict[str, Any]) -> list[tuple[str, int, float | None]]:
    """Way, seed and result of each run in a file; None where a run diverged."""
    if "runs" in found:
        return _of_report(found["runs"])
    results = [(row["name"], row["results"]) for row in found["results"]]
    return [(name, int(seed), of_seed[seed]) for name, of_seed in results for seed in of_seed]


def _of_report(runs: list[dict[str, Any]]) -> list[tuple[str, int, float | None]]:
    """The same of runs.json. The oldest have an accuracy, and no labels."""
    labels = {(run["arm"], run.get("label")) for run in runs}
    unique = len({label for _, label in labels}) == len(labels)
    name = "label" if unique else "arm"
    return [(run[name], run["seed"], run.get("result", run.get("accuracy"))) for run in runs]


def _metric_of_report(found: dict[str, Any]) -> str:
    """What a report's runs are measured by. The oldest are of images, and do not say so."""
    return f"{found.get('config', {}).get('task', 'classification')} result"


def differences(ours: dict[int, float], theirs: dict[int, float]) -> list[float]:
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def table(results: Results, against: Sequence[str], only: str = "") -> list[list[str]]:
    """The lines of the table, the first of them its headings."""
    for name in against:
        if name not in results:
            raise ValueError(f"no way is called {name!r}; choose from {', '.join(results)}")
    shown = [name for name in results if only in name or name in against]
    pairs = [(name, other) for name in shown for other in against if name != other]
    found = {pair: differences(results[pair[0]], results[pair[1]]) for pair in pairs}
    for (name, other), values in found.items():
        if len(values) < 2:
            raise ValueError(
                f"{name!r} and {other!r} have {len(values)} seeds in common; give 2 or more"
            )
    tests = {frozenset(pair): p_of(values) for pair, values in found.items()}  # either way around
    p_values = dict(zip(tests, holm([*tests.values()]), strict=True))

    def cell(name: str, other: str) -> str:
        if name == other:
            return ""
        values = found[name, other]
        mean = round(statistics.fmean(values), 9) + 0.0  # where they cancel out, no -1e-15
        half = half_interval(values)
        interval = f"{mean - half:+.4g} to {mean + half:+.4g}"
        return f"{mean:+.4g} ({interval}), p {p_text(p_values[frozenset((name, other))])}"

    lines = [["", "mean ± deviation", "seeds", *(f"against {name}" for name in against)]]
    for name in shown:
        values = list(results[name].values())
        mean, deviation = statistics.fmean(values), statistics.stdev(values)
        cells = [cell(name, other) for other in against]
        lines.append([name, f"{mean:.4f} ± {deviation:.4f}", str(len(values)), *cells])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--against", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--only", default="", metavar="TEXT", help="ways that have it in their names")
    options = parser.parse_args()
    try:
        metric, results = read(options.files)
        lines = table(results, options.against, options.only)
    except ValueError as error:
        parser.error(str(error))
    print(f"{metric}, paired by seed; p after Holm's correction")
    for line in lines:
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
