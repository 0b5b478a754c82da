"""What pruning costs beside a plain shuffled DataLoader: time, each step's added work, memory.

    python benchmarks/overhead.py [--json FILE] [--only NAME ...] [--repeats N]

Every time is measured against the plain way on the same data in the same process, the two taking
turns, and reported as the ratio of their medians with the middle half of the ratios of the single
turns as its spread. A dozen samples in the low numbers are enough to tell 1.2 from 2; they do not
tell 1.18 from 1.20.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from infobatch import DynamicPruner, InfoBatch, NoPruning
from infobatch.lab.runs.environment import describe_environment
from infobatch.policies import PercentileTiers

NUM_SAMPLES = 1_281_167  # ImageNet-1k's training set
RECORD_BATCH = 65_536
SEED = 0

EPOCH_LIMIT = 2.0
INDICES_LIMIT = 1.2
UPDATE_LIMIT = 25.0
LOADER_LIMIT = 1.10
MEMORY_LIMIT = 24.0


@dataclass(frozen=True)
class Result:
    """One row. ``value`` in ``unit``; its middle half lies in ``low``..``high``.

    ``baseline`` and ``ours``: the medians behind it, in ``unit_of_medians``.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str
    limit: float | None
    baseline: float
    ours: float
    unit_of_medians: str

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return "-"
        return "ok" if self.value <= self.limit else "over"


# -- Measuring -------------------------------------------------------------------------------------


def seconds_of(work: Callable[[], Any]) -> float:
    """Wall time of one call; what it returns is freed after the clock has stopped."""
    began = time.perf_counter()
    kept = work()
    elapsed = time.perf_counter() - began
    del kept
    return elapsed


def take_turns(
    baseline: Callable[[], float], ours: Callable[[], float], repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds of either, alternately, the one that goes first changing; a first turn is discarded.

    The garbage collector is off meanwhile, as in ``timeit``.
    """
    times: tuple[list[float], list[float]] = ([], [])
    gc.collect()
    gc.disable()
    try:
        for turn in range(repeats + 1):
            sides = [(times[0], baseline), (times[1], ours)]
            for kept, measure in sides if turn % 2 else reversed(sides):
                kept.append(measure())
    finally:
        gc.enable()
    return times[0][1:], times[1][1:]


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(values, n=4)
    return low, high


def as_ratio(name: str, baseline: Sequence[float], ours: Sequence[float], limit: float | None) -> Result:
    """Median of ours over median of the baseline."""
    low, high = quartiles([b / a for a, b in zip(baseline, ours, strict=True)])
    plain, pruned = statistics.median(baseline) * 1e3, statistics.median(ours) * 1e3
    return Result(name, pruned / plain, low, high, "x", limit, plain, pruned, "ms")


def as_added_microseconds(
    name: str, baseline: Sequence[float], ours: Sequence[float], limit: float | None
) -> Result:
    """Median of ours less median of the baseline, in microseconds."""
    low, high = quartiles([(b - a) * 1e6 for a, b in zip(baseline, ours, strict=True)])
    plain, pruned = statistics.median(baseline) * 1e6, statistics.median(ours) * 1e6
    return Result(name, pruned - plain, low, high, "us", limit, plain, pruned, "us")


def record_epoch(pruner: DynamicPruner, generator: torch.Generator) -> None:
    """Record a loss for every sample of the epoch under way: log-normal, as losses often are."""
    for indices in pruner.selection.indices.split(RECORD_BATCH):
        losses = torch.randn(len(indices), generator=generator).exp()
        pruner.record(losses, indices.numpy())


def exhaust(iterable: Iterable[Any]) -> None:
    for _ in iterable:
        pass


# -- What is measured ------------------------------------------------------------------------------


def epoch_change(repeats: int) -> list[Result]:
    """Deciding an epoch: ``set_epoch`` and the list of indices, over ``randperm(N).tolist()``.

    N = 1,281,167, every sample of the epoch before recorded (off the clock). Ratio of seconds; limit 2.
    """
    share = int(0.3 * NUM_SAMPLES)
    modes: dict[str, dict[str, Any]] = {
        "InfoBatch, mean threshold": {"policy": InfoBatch()},
        "InfoBatch, exact target 30 %": {
            "policy": InfoBatch(),
            "target": [0] + [share] * (repeats + 1),
        },
        "PercentileTiers": {"policy": PercentileTiers()},
    }
    results = []
    for mode, options in modes.items():
        pruner = DynamicPruner(range(NUM_SAMPLES), repeats + 2, delta=1, seed=SEED, **options)
        sampler = pruner.sampler(256)
        losses = torch.Generator().manual_seed(SEED)
        orders = torch.Generator().manual_seed(SEED)

        def plain(orders: torch.Generator = orders) -> float:
            return seconds_of(lambda: torch.randperm(NUM_SAMPLES, generator=orders).tolist())

        def ours(
            pruner: DynamicPruner = pruner,
            sampler: Iterable[int] = sampler,
            losses: torch.Generator = losses,
        ) -> float:
            record_epoch(pruner, losses)

            def change() -> Any:
                pruner.set_epoch(pruner.epoch + 1)
                return iter(sampler)

            return seconds_of(change)

        results.append(as_ratio(f"epoch change: {mode}", *take_turns(plain, ours, repeats), EPOCH_LIMIT))
    return results


def handing_out_indices(repeats: int) -> list[Result]:
    """Iterating a whole epoch's indices, nothing pruned, over ``RandomSampler``; and in batches of 256.

    N = 1,281,167, ``iter()`` on the clock on both sides. RandomSampler draws its permutation there;
    ours has been drawn when the epoch began (:func:`epoch_change` times that). Ratio of seconds;
    limit 1.2.
    """
    pruner = DynamicPruner(range(NUM_SAMPLES), 1, policy=NoPruning(), seed=SEED)
    ours = pruner.sampler(256)
    assert len(ours) == NUM_SAMPLES
    plain = RandomSampler(range(NUM_SAMPLES), generator=torch.Generator().manual_seed(SEED))
    pairs: dict[str, tuple[Iterable[Any], Iterable[Any]]] = {
        "one by one": (plain, ours),
        "in batches of 256": (BatchSampler(plain, 256, False), BatchSampler(ours, 256, False)),
    }
    results = []
    for how, (baseline, measured) in pairs.items():
        times = take_turns(
            lambda baseline=baseline: seconds_of(lambda: exhaust(baseline)),  # type: ignore[misc]
            lambda measured=measured: seconds_of(lambda: exhaust(measured)),  # type: ignore[misc]
            repeats,
        )
        results.append(as_ratio(f"indices: {how}", *times, INDICES_LIMIT))
    return results


def update_step(repeats: int) -> list[Result]:
    """``pruner.update(losses, indices)`` over ``losses.mean()``: microseconds added to a step.

    128 float32 losses on the CPU that require grad, in a pruned epoch of N = 50,000, a new batch every
    step. First each on its own for 350 steps at a time: limit 25. Then, without a limit, in turn step by
    step and with the backward pass, so that neither finds its code and data in the caches.
    """
    pruner = DynamicPruner(range(50_000), 2, policy=InfoBatch(), delta=1, seed=SEED)
    sampler = pruner.sampler(128)
    record_epoch(pruner, torch.Generator().manual_seed(SEED))
    pruner.set_epoch(1)
    indices = np.array(list(sampler))
    batches = np.split(indices[: 128 * (len(indices) // 128)], len(indices) // 128)
    parameters = torch.rand(128, requires_grad=True)
    losses = parameters * 2

    def steps(reduce: Callable[[Any], Any]) -> float:
        return seconds_of(lambda: [reduce(part) for part in batches]) / len(batches)

    warm = take_turns(
        lambda: steps(lambda part: losses.mean()),
        lambda: steps(lambda part: pruner.update(losses, part)),
        3 * repeats,
    )

    endless = itertools.cycle(batches)

    def whole_step(reduce: Callable[[torch.Tensor, Any], torch.Tensor]) -> float:
        part, fresh = next(endless).copy(), parameters * 2
        return seconds_of(lambda: reduce(fresh, part).backward())  # type: ignore[no-untyped-call]

    cold = take_turns(
        lambda: whole_step(lambda fresh, part: fresh.mean()),
        lambda: whole_step(pruner.update),
        200 * repeats,
    )
    return [
        as_added_microseconds("update, 128 losses", *warm, UPDATE_LIMIT),
        as_added_microseconds("update and backward, caches cold", *cold, None),
    ]


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """N float32 pictures of 3x32x32 in memory, with a class each."""

    def __init__(self, num_samples: int) -> None:
        self.pixels = torch.rand(num_samples, 3, 32, 32, generator=torch.Generator().manual_seed(SEED))
        self.labels = [i % 10 for i in range(num_samples)]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.pixels[index], self.labels[index]


def carrying_indices(repeats: int) -> list[Result]:
    """A loader's whole epoch that carries the indices over ``DataLoader(shuffle=True)``.

    Nothing pruned; 12,800 float32 pictures of 3x32x32 in batches of 256, two persistent workers, the
    batches dropped on arrival. Ratio of seconds; limit 1.10. The epoch is not advanced in between:
    :func:`epoch_change` times that, :func:`update_step` the recording.
    """
    data = Pictures(50 * 256)
    options: dict[str, Any] = {"batch_size": 256, "num_workers": 2, "persistent_workers": True}
    plain = DataLoader(data, shuffle=True, **options)
    ours = DynamicPruner(data, 1, policy=NoPruning(), seed=SEED).loader(**options)
    times = take_turns(
        lambda: seconds_of(lambda: exhaust(plain)), lambda: seconds_of(lambda: exhaust(ours)), repeats
    )
    return [as_ratio("loader with 2 workers", *times, LOADER_LIMIT)]


def lasting_memory(repeats: int) -> list[Result]:
    """Bytes a sample that last through a pruned epoch: all tensors and arrays a pruner reaches.

    N = 1,281,167; each storage counts once, whole. Limit 24. The baseline is the int64 permutation,
    which a plain RandomSampler drops once it has made a list of it. That list is not counted (40 bytes a
    sample in CPython; the pruner's sampler makes none). One value, no spread.
    """
    del repeats
    results = []
    for target in (None, [0, NUM_SAMPLES // 1000]):  # the second keeps nearly all: the longest order
        policy = None if target else InfoBatch()
        pruner = DynamicPruner(range(NUM_SAMPLES), 2, policy=policy, delta=1, seed=SEED, target=target)
        pruner.sampler(256)
        record_epoch(pruner, torch.Generator().manual_seed(SEED))
        pruner.set_epoch(1)
        size = sum(reachable_storages(pruner).values()) / NUM_SAMPLES
        name = "memory that lasts" + (", hardly anything pruned" if target else "")
        results.append(Result(name, size, size, size, "B/sample", MEMORY_LIMIT, 8, size, "B/sample"))
    return results


def reachable_storages(root: object) -> dict[int, int]:
    """Bytes of each tensor or array memory reachable from ``root``, by address."""
    sizes: dict[int, int] = {}
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            storage = item.untyped_storage()
            sizes[storage.data_ptr()] = max(storage.nbytes(), sizes.get(storage.data_ptr(), 0))
        elif isinstance(item, np.ndarray):
            if item.base is None:
                address = item.__array_interface__["data"][0]
                sizes[address] = max(item.nbytes, sizes.get(address, 0))
            else:
                waiting.append(item.base)
        elif isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, str | bytes | range | type):
            pass
        elif isinstance(item, Iterable) and hasattr(item, "__len__"):
            waiting += list(item)
        else:
            waiting += list(getattr(item, "__dict__", {}).values())
            waiting += [getattr(item, "__self__", None), getattr(item, "__func__", None)]
    return sizes


def peak_memory(repeats: int) -> list[Result]:
    """How far an epoch change raises the process above where it stood, in bytes a sample.

    In a fresh process each: ``set_epoch`` and an iterator of indices, against ``randperm(N).tolist()``.
    By the kernel's high-water mark (Linux only); stated, without a limit. N = 1,281,167.
    """
    del repeats
    if not Path("/proc/self/clear_refs").exists():
        print("peak memory: skipped, it needs Linux's /proc", file=sys.stderr)
        return []
    plain = peak_in_new_process("plain")
    results = []
    for mode in ("mean", "target", "tiers"):
        ours = peak_in_new_process(mode)
        name = f"peak of an epoch change: {mode}"
        results.append(Result(name, ours, ours, ours, "B/sample", None, plain, ours, "B/sample"))
    return results


def peak_in_new_process(mode: str) -> float:
    # Large blocks go back to the system when freed, so that the mark sees what is in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--peak", mode]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout)


def print_peak(mode: str) -> None:
    """The child of :func:`peak_in_new_process`."""
    options: dict[str, Any] = {
        "mean": {"policy": InfoBatch()},
        "target": {"target": [0, int(0.3 * NUM_SAMPLES)]},
        "tiers": {"policy": PercentileTiers()},
    }
    if mode == "plain":
        torch.randperm(10).tolist()

        def change() -> Any:
            return torch.randperm(NUM_SAMPLES).tolist()
    else:
        pruner = DynamicPruner(range(NUM_SAMPLES), 2, delta=1, seed=SEED, **options[mode])
        sampler = pruner.sampler(256)
        record_epoch(pruner, torch.Generator().manual_seed(SEED))

        def change() -> Any:
            pruner.set_epoch(1)
            return iter(sampler)

    Path("/proc/self/clear_refs").write_text("5")  # the mark starts anew from here
    before = status_bytes("VmRSS")
    kept = change()
    print((status_bytes("VmHWM") - before) / NUM_SAMPLES)
    del kept


def status_bytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


# -- Reporting -------------------------------------------------------------------------------------

MEASUREMENTS: dict[str, Callable[[int], list[Result]]] = {
    "epoch": epoch_change,
    "indices": handing_out_indices,
    "update": update_step,
    "loader": carrying_indices,
    "memory": lasting_memory,
    "peak": peak_memory,
}


def environment() -> dict[str, Any]:
    return {
        **describe_environment(torch.device("cpu")),
        "load": round(os.getloadavg()[0], 2),
        "numpy": np.__version__,
        "seed": SEED,
    }


def print_table(results: Sequence[Result]) -> None:
    print(f"\n{'':44} {'measured':>9} {'middle half':>17} {'limit':>7}         plain -> ours")
    for r in results:
        spread = f"{r.low:.2f} .. {r.high:.2f}" if r.low < r.high else ""
        limit = "" if r.limit is None else f"{r.limit:g}"
        medians = f"{r.baseline:.1f} -> {r.ours:.1f} {r.unit_of_medians}"
        unit = "B" if r.unit == "B/sample" else r.unit
        print(
            f"{r.name:44} {r.value:7.2f} {unit:2}{spread:>17} {limit:>7}  {r.verdict:5}  {medians}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--repeats", type=int, default=15, help="turns of each side (default 15)")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(options.peak)
        return
    if options.repeats < 2:
        parser.error(f"--repeats is {options.repeats}; a spread needs at least 2")
    where = environment()
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    results = []
    for name in options.only:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        results += MEASUREMENTS[name](options.repeats)
    print_table(results)
    if options.json:
        rows = [{**asdict(r), "verdict": r.verdict} for r in results]
        text = json.dumps({"environment": where, "repeats": options.repeats, "results": rows}, indent=2)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
