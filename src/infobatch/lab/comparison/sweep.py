"""Several recipes, each compared at several prune ratios, in one folder that fills up over time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from infobatch.lab.comparison.comparison import Comparison, Variant
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.runs.folder import require_same

HELPER = "INFOBATCH_SWEEP_HELPER"
"""Set for the processes that a sweep starts to share its work; they print nothing."""


@dataclass(frozen=True)
class Sweep:
    """``<path>/<recipe>``: a comparison of each recipe."""

    comparisons: tuple[Comparison, ...]

    @classmethod
    def of(
        cls,
        configs: Sequence[TrainConfig],
        variants: Sequence[Variant],
        num_seeds: int,
        margin: float | None,
        controls: bool,
        path: Path,
    ) -> Sweep:
        """``configs``: of recipes, which name the folders."""
        return cls(
            tuple(
                Comparison(config, tuple(variants), num_seeds, margin, path / config.recipe, controls)
                for config in configs
            )
        )

    def check(self) -> None:
        """Raise ``ValueError`` for what could only fail later, or does not fit what is there."""
        for comparison in self.comparisons:
            comparison.check()
            if (comparison.path / "compare.json").exists():
                there = Comparison.load(comparison.path).config
                require_same(replace(comparison.config, seed=there.seed), there, comparison.path)

    def save(self) -> None:
        """Write down what is wanted, beside what earlier sweeps in this folder wanted."""
        for comparison in self.comparisons:
            if (comparison.path / "compare.json").exists():
                comparison = _joined(Comparison.load(comparison.path), comparison)
            comparison.save()


def _joined(earlier: Comparison, wanted: Comparison) -> Comparison:
    variants = tuple(dict.fromkeys([*earlier.variants, *wanted.variants]))
    first = min(earlier.seeds.start, wanted.seeds.start)
    last = max(earlier.seeds.stop, wanted.seeds.stop)
    return replace(
        wanted,
        config=replace(wanted.config, seed=first),
        variants=variants,
        num_seeds=last - first,
        controls=earlier.controls or wanted.controls,
    )


@contextmanager
def helpers(num_helpers: int) -> Iterator[None]:
    """Start this very command ``num_helpers`` times more; each takes what no other is training."""
    if HELPER in os.environ:
        num_helpers = 0
    threads = max(1, (os.cpu_count() or 1) // (num_helpers + 1))
    environment = {**os.environ, HELPER: "1", "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "infobatch.lab.cli", *sys.argv[1:]]
    if num_helpers:
        torch.set_num_threads(threads)
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(num_helpers)
    ]
    try:
        yield
    except BaseException:
        for process in processes:
            process.send_signal(signal.SIGINT)  # stops it at a step boundary
        raise
    finally:
        for process in processes:
            process.wait()
