"""Time and memory of a pruner over many samples, a policy at a time.

    OMP_NUM_THREADS=1 python benchmarks/large.py [--samples 20000000] [spaced budget infobatch neyman]

For each policy, in a process of its own: the seconds to make a pruner and its sampler, to begin each of
the first three epochs and to record it in batches of a million, and the bytes a sample at the peak,
beyond what the process held before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo  # which the first record would import, and so count as its own

from infobatch import DynamicPruner, InfoBatch, Neyman, NoiseBudget

OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "spaced": lambda: {"target": 0.3},
    "budget": lambda: {"policy": NoiseBudget(1.1)},
    "infobatch": lambda: {"policy": InfoBatch()},
    "neyman": lambda: {"policy": Neyman(), "target": 0.3},
}
PIECE = 1 << 20


def peak() -> int:
    """The most bytes that this process has held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(name: str, num_samples: int) -> None:
    before, generator = peak(), torch.Generator().manual_seed(0)
    start = time.perf_counter()
    pruner = DynamicPruner(range(num_samples), 5, **OPTIONS[name]())
    (pruner.batch_sampler if name == "budget" else pruner.sampler)(1024)
    print(f"{name}: made in {time.perf_counter() - start:.1f} s", flush=True)
    for epoch in range(3):
        start = time.perf_counter()
        pruner.set_epoch(epoch)
        begun = time.perf_counter()
        order = pruner.current.share_of_rank()
        for place in range(0, len(order), PIECE):
            piece = order[place : place + PIECE]
            learned = 1 - 0.5 * place / len(order)  # sizes fall as a model learns
            sizes = torch.rand(1 + len(pruner.signals), len(piece), generator=generator) * learned
            losses, *others = sizes
            pruner.record(losses**3, piece, **dict(zip(pruner.signals, others, strict=True)))
        num_selected = len(order)
        del order, piece  # as a loader does, which has come to its end
        print(
            f"  epoch {epoch}: {num_selected:,} selected in {begun - start:.1f} s, "
            f"recorded in {time.perf_counter() - begun:.1f} s",
            flush=True,
        )
    print(f"  {(peak() - before) / num_samples:.1f} bytes a sample at the peak", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policies", nargs="*", default=list(OPTIONS), metavar="POLICY")
    parser.add_argument("--samples", type=int, default=20_000_000)
    options = parser.parse_args()
    for name in options.policies:
        if name not in OPTIONS:
            parser.error(f"there is no policy {name!r} here; choose from {', '.join(OPTIONS)}")
        alone = multiprocessing.get_context("spawn").Process(
            target=measure, args=(name, options.samples)
        )
        alone.start()
        alone.join()


if __name__ == "__main__":
    main()
