"""What a policy gains over each of the others, averaged over the costs of contests.

    python benchmarks/averaged.py [--policy NAME] [--save 30,50] RUNS.json [RUNS.json ...]

Reads the runs.json of contests of one recipe. For each other arm: the policy's result minus that arm's
of the same seed and cost, averaged over the costs that both have; the mean over seeds with its 95 % t
interval, and p of a paired t test after Holm's correction over the rows. One figure for several costs
says more than each alone: the seeds are the same, the noise is not.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from infobatch.lab.config.policy_spec import BELOW_MEAN
from infobatch.lab.report.arms import half_interval
from infobatch.lab.report.paired import holm, p_of, p_text

ARM = re.compile(r"(?:(?P<policy>.+)-)?save-(?P<saved>[\d.]+)/(?P<kind>.+)")
"""Controls name no policy."""
WITH_RATIO = re.compile(rf"((?:{'|'.join(BELOW_MEAN)})\b.*)-0\.\d+")
"""These have a prune ratio of their own at each cost."""

Results = dict[str, dict[float, dict[int, float]]]
"""Of each policy and control, at each cost, by seed."""


def read(paths: Sequence[Path]) -> Results:
    results: Results = defaultdict(lambda: defaultdict(dict))
    for path in paths:
        for run in json.loads(path.read_text())["runs"]:
            if found := ARM.fullmatch(run["arm"]):
                name = WITH_RATIO.sub(r"\1", found["policy"] or found["kind"])
                results[name][float(found["saved"])][run["seed"]] = run["result"]
    return results


def differences(results: Results, ours: str, rival: str, costs: Sequence[float]) -> list[float]:
    """Of each seed that both have at all ``costs``, ours minus the rival's, averaged over them."""
    pairs = [(results[ours][cost], results[rival][cost]) for cost in costs]
    seeds = set.intersection(*(mine.keys() & theirs.keys() for mine, theirs in pairs))
    return [statistics.fmean(mine[s] - theirs[s] for mine, theirs in pairs) for s in sorted(seeds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", type=Path, nargs="+", metavar="RUNS.json")
    parser.add_argument("--policy", default="spaced")
    parser.add_argument("--save", help="the costs, in percent saved; by default all there are")
    options = parser.parse_args()
    results = read(options.paths)
    if options.policy not in results:
        parser.error(f"--policy is {options.policy}; there are {', '.join(sorted(results))}")
    there = results[options.policy].keys()
    wanted = {float(cost) for cost in options.save.split(",")} if options.save else set(there)
    if missing := wanted - there:
        parser.error(f"--save has {min(missing):g}, at which {options.policy} was not run")
    rows = []
    for rival in sorted(results.keys() - {options.policy}):
        costs = sorted(wanted & results[rival].keys())
        values = differences(results, options.policy, rival, costs) if costs else []
        if len(values) > 1:
            rows.append((rival, costs, values, p_of(values)))
    corrected = holm([p for *_, p in rows])
    for (rival, costs, values, _), p in zip(rows, corrected, strict=True):
        mean, half = statistics.fmean(values), half_interval(values)
        saved = ", ".join(f"{cost:g}" for cost in costs)
        print(
            f"{options.policy} − {rival:18} {mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})  "
            f"p {p_text(p)}  {len(values)} seeds, {saved} % saved"
        )


if __name__ == "__main__":
    main()
