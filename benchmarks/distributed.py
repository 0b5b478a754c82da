"""What several ranks cost: a step beside plain DDP, the collective of an epoch, the sharded plan.

    python benchmarks/distributed.py [--json FILE] [--plot FILE] [--only NAME ...]

step: two gloo processes train a small network; steps with the pruner and without it take turns.
collective: ending an epoch and beginning the next, of which the draw and the order are told apart.
plan: what one rank of 64 does, in a fresh process for each N, the other ranks taken to be like it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from infobatch import DynamicPruner, InfoBatch, NoiseBudget, RandomPruning, Sharded
from infobatch.lab.runs.environment import describe_environment
from infobatch.policies import PercentileTiers

NUM_SAMPLES = 1_281_167  # ImageNet-1k's training set
NUM_RANKS = 64
POLICIES = {"mean": InfoBatch(), "tiers": PercentileTiers(), "random": RandomPruning()}

STEP_LIMIT = 1.02
COLLECTIVE_LIMIT = 50.0
PLAN_LIMIT = 1.0
MEMORY_LIMIT = 300.0

Row = dict[str, Any]


def row(name: str, value: float, unit: str, limit: float | None, **more: Any) -> Row:
    verdict = "-" if limit is None else "ok" if value <= limit else "over"
    return {"name": name, "value": value, "unit": unit, "limit": limit, "verdict": verdict, **more}


# -- Two processes ---------------------------------------------------------------------------------


def in_processes(work: str, *arguments: float) -> Any:
    """What rank 0 of two gloo processes finds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--rank-of", work, folder, *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ranks = [
            subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True, env=environment)
            for rank in range(2)
        ]
        found = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        raise RuntimeError(f"the ranks of {work} ended with {[rank.returncode for rank in ranks]}")
    return json.loads(found[0])


def rank_of(work: str, folder: str, *arguments: str) -> None:
    *numbers, rank = arguments
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=int(rank), world_size=2)
    try:
        found = {"step": step_times, "collective": collective_times}[work](*map(int, numbers))
    finally:
        dist.destroy_process_group()
    if rank == "0":
        print(json.dumps(found))


def step_times(num_steps: int, width: int, budget: int = 0) -> dict[str, list[float]]:
    """Milliseconds of steps with the pruner, of plain ones, and of plain ones again: the noise.

    With a ``budget`` the pruner is that of a noise budget, which shrinks batches and reads norms.
    """
    torch.manual_seed(0)
    layers = [torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 10)]
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(*layers))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    size = 64
    inputs, targets = torch.randn(size, width), torch.randint(10, (size,))
    policy = NoiseBudget() if budget else InfoBatch()
    pruner = DynamicPruner(range(2 * size * (num_steps + 20)), 2, policy=policy)
    batches = iter(pruner.loader(size))
    next(pruner.epochs())

    def step(weigh: Callable[[Tensor], Tensor]) -> float:
        dist.barrier()  # or a rank would wait, within its step, for what the other does off the clock
        began = time.perf_counter()
        losses = torch.nn.functional.cross_entropy(model(inputs), targets, reduction="none")
        weigh(losses).backward()
        optimizer.step()
        optimizer.zero_grad()
        return (time.perf_counter() - began) * 1e3

    def ours() -> float:
        indices, _ = next(batches)  # the same work as a plain loader's, off the clock
        return step(lambda losses: pruner.update(losses, indices))

    def plain() -> float:
        return step(Tensor.mean)

    times: dict[str, list[float]] = {"ours": [], "plain": [], "again": []}
    for turn in range(num_steps + 10):
        kinds = [("ours", ours), ("plain", plain), ("again", plain)]
        for name, run in kinds[turn % 3 :] + kinds[: turn % 3]:
            milliseconds = run()
            if turn >= 10:
                times[name].append(milliseconds)
    return times


def collective_times(num_samples: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds, on the host, of the ranks' agreement and of merging their scores."""
    times: dict[str, list[float]] = {"agree": [], "merge": []}
    pruner = DynamicPruner(range(num_samples), repeats + 2, policy=InfoBatch())
    pruner.sampler(128)
    store = pruner._store
    for _ in pruner.epochs():
        own = pruner.current.share.numpy()
        own = own[own >= 0]
        pruner.record(torch.rand(len(own)), own)
        dist.barrier()
        began = time.perf_counter()
        store.merge(pruner.current)
        merged = time.perf_counter()
        pruner.current.agreed = False
        store.agree(pruner.current)
        times["merge"].append((merged - began) * 1e3)
        times["agree"].append((time.perf_counter() - merged) * 1e3)
    return {name: values[1:] for name, values in times.items()}


def measure_step(options: argparse.Namespace) -> list[Row]:
    return [*_step_rows(options, False), *_step_rows(options, True)]


def _step_rows(options: argparse.Namespace, budget: bool) -> list[Row]:
    times = in_processes("step", options.steps, options.width, int(budget))
    medians = {name: statistics.median(values) for name, values in times.items()}
    turns = list(zip(*times.values(), strict=True))  # of one turn, for the machine's pace drifts
    more = statistics.median(ours - (plain + again) / 2 for ours, plain, again in turns)
    noise = statistics.median(again - plain for _, plain, again in turns)
    name = f"step of {medians['plain']:.2f} ms{', noise budget' * budget} / plain DDP"
    return [
        row(name, 1 + more / medians["plain"], "x", STEP_LIMIT, **medians),
        row("plain / plain", 1 + noise / medians["plain"], "x", None),
    ]


def measure_collective(options: argparse.Namespace) -> list[Row]:
    times = in_processes("collective", options.num_samples, options.repeats)
    whole = [merge + agree for merge, agree in zip(times["merge"], times["agree"], strict=True)]
    agree = statistics.median(times["agree"])
    name = f"an epoch's collectives, {options.num_samples:,} samples"
    return [
        row(name, statistics.median(whole), "ms", COLLECTIVE_LIMIT),
        row("of them the agreement on the selection", agree, "ms", None),
    ]


# -- One rank of 64 --------------------------------------------------------------------------------


def plan_cost(num_samples: int, policy: str) -> None:
    """Print one rank's seconds, those of its processor, and megabytes: child of :func:`measure_plan`."""

    def reduce(values: Tensor) -> Tensor:
        if len(values) != num_shards:
            return values * NUM_RANKS
        by_rank = values.reshape(-1, NUM_RANKS, *values.shape[1:])  # a row for each shard
        return by_rank[:, 3:4].expand_as(by_rank).reshape(values.shape)

    num_shards = max(NUM_RANKS, min(7680, num_samples // 1024 // NUM_RANKS * NUM_RANKS))
    Path("/proc/self/clear_refs").write_text("5")  # the mark starts anew from here
    before = resident("VmRSS")
    pruner = DynamicPruner(
        range(num_samples),
        3,
        policy=POLICIES[policy],
        delta=1,
        rank=3,
        num_replicas=NUM_RANKS,
        layout=Sharded(num_shards, reduce),
    )
    pruner.sampler(256)
    pruner.current  # noqa: B018
    generator = torch.Generator().manual_seed(0)
    losses = pruner.scores["last_loss"]
    losses.exponential_(generator=generator)
    pruner.scores["visits"].fill_(1)
    one = next(pruner.current.draws())
    pruner.record(torch.ones(1), [one])
    began, processor_began = time.perf_counter(), time.process_time()
    pruner.set_epoch(1)
    seconds, processor = time.perf_counter() - began, time.process_time() - processor_began
    print(json.dumps([seconds, processor, (resident("VmHWM") - before) / 2**20]))


def resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def measure_plan(options: argparse.Namespace) -> list[Row]:
    rows = []
    for policy in POLICIES:
        for num_samples in options.plan:
            command = [sys.executable, __file__, "--plan-of", policy, str(num_samples)]
            found = []
            for _ in range(options.repeats):
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                done = subprocess.run(
                    command, env=environment, check=True, capture_output=True, text=True
                )
                found.append(json.loads(done.stdout))
            seconds, processor, memory = map(statistics.median, zip(*found, strict=True))
            name = f"{policy}: one rank of {NUM_RANKS}, {num_samples:,} samples"
            of = {"policy": policy, "num_samples": num_samples}
            rows += [
                row(f"{name}, seconds", seconds, "s", PLAN_LIMIT, **of),
                row(f"{name}, of the processor", processor, "s", None),
                row(f"{name}, memory", memory, "MB", MEMORY_LIMIT, **of),
            ]
    return rows


def plot_plan(rows: list[Row], path: Path) -> None:
    """Draw one rank's seconds and megabytes against the number of samples on all ranks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    titles = {"s": "seconds to plan an epoch", "MB": "megabytes"}
    for axes, (unit, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        drawn = [each for each in rows if each["unit"] == unit and "policy" in each]
        for policy in POLICIES:
            points = [(each["num_samples"], each["value"]) for each in drawn if each["policy"] == policy]
            axes.loglog(*zip(*points, strict=True), marker="o", label=policy)
        axes.axhline(drawn[0]["limit"], color="0.5", linestyle="--", linewidth=1)
        axes.set(title=f"one rank of {NUM_RANKS}: {title}", xlabel="samples on all ranks")
        axes.legend()
    figure.savefig(path)


# -- Reporting -------------------------------------------------------------------------------------

MEASUREMENTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "step": measure_step,
    "collective": measure_collective,
    "plan": measure_plan,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the plan's cost against N there")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--steps", type=int, default=600, help="of each kind (default 600)")
    parser.add_argument("--width", type=int, default=1536, help="of the network trained (default 1536)")
    parser.add_argument("--num-samples", type=int, default=NUM_SAMPLES, help="of the collective")
    parser.add_argument("--repeats", type=int, default=5, help="epochs, and plans of each kind")
    parser.add_argument(
        "--plan",
        type=lambda text: int(float(text)),
        nargs="+",
        metavar="N",
        default=[10**5, 10**6, 10**7, 10**8, 10**9],
    )
    parser.add_argument("--rank-of", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--plan-of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of:
        return rank_of(*options.rank_of)
    if options.plan_of:
        return plan_cost(int(options.plan_of[1]), options.plan_of[0])
    if options.plot and "plan" not in options.only:
        parser.error(f"--plot is {options.plot}, but the plan is not measured; add plan to --only")
    if options.repeats < 2 or options.steps < 2:
        parser.error(f"--repeats is {options.repeats} and --steps {options.steps}; give at least 2")
    where = describe_environment(torch.device("cpu")) | {"load": round(os.getloadavg()[0], 2)}
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    rows: list[Row] = []
    for name in options.only:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        for found in MEASUREMENTS[name](options):
            rows.append(found)
            limit = "" if found["limit"] is None else f"{found['limit']:g}"
            value = f"{found['value']:9.3f} {found['unit']:2}"
            print(f"{found['name']:56} {value} {limit:>6}  {found['verdict']}", flush=True)
    if options.json:
        text = json.dumps({"environment": where, "results": rows}, indent=2)
        options.json.write_text(text + "\n")
    if options.plot:
        plot_plan(rows, options.plot)


if __name__ == "__main__":
    main()
