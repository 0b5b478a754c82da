"""Sweeps: several recipes, each with a comparison, in one folder that fills up over time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.variants import Variant
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data.table_files import own_file
from infobatch.lab.runs.same_options import require_same

HELPER = "INFOBATCH_SWEEP_HELPER"
"""The environment variable that marks the processes a sweep starts to share its work; they print
nothing."""


@dataclass(frozen=True)
class Sweep:
    """Comparisons of several recipes in one folder, ``<path>/<recipe>`` each.

    Args:
        comparisons: The comparison of each recipe.
    """

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
        also: tuple[str, ...] = (),
    ) -> Sweep:
        """Compare the same variants for each of several recipes.

        Args:
            configs: The options of each recipe, or of a table of the user's.
            variants: The ways of pruning that are compared with full data.
            num_seeds: Runs of each arm, at least 1.
            margin: Largest loss, in the task's metric, for the verdict "lossless"; None takes the
                metric's own.
            controls: Whether each variant is also compared with the controls at its cost.
            path: The sweep's folder.
            also: Controls that all variants are compared with on request.

        Returns:
            The sweep.
        """
        return cls(
            tuple(
                Comparison(
                    config,
                    tuple(variants),
                    num_seeds,
                    margin,
                    path / name_of(config),
                    controls,
                    also,
                )
                for config in configs
            )
        )

    def check(self) -> None:
        """Refuse options that could only fail later, or do not fit what is in the folder.

        Raises:
            ValueError: If an option does not hold, two comparisons would share a folder, or the folder's
                runs have other options.
        """
        places: dict[Path, TrainConfig] = {}
        for comparison in self.comparisons:
            first, config = places.setdefault(comparison.path, comparison.config), comparison.config
            if first != config:
                tables = (f"{each.data_dir}:{each.tabular.target}" for each in (first, config))
                raise ValueError(
                    f"{' and '.join(tables)} would both be trained in {comparison.path}; give each an "
                    "--out of its own"
                )
        for comparison in self.comparisons:
            comparison.check()
            if (comparison.path / "compare.json").exists():
                there = Comparison.load(comparison.path)
                wanted = replace(comparison.config, seed=there.config.seed)
                require_same(wanted, there.config, comparison.path)
                _check_no_gap(there.seeds, comparison.seeds, comparison.path)

    def check_runs(self, num_samples: Mapping[str, int]) -> None:
        """Refuse a folder that holds a run of other options, before anything is written.

        Args:
            num_samples: N, the number of training samples, by what :func:`name_of` calls them.

        Raises:
            ValueError: If it does.
        """
        for comparison in self.comparisons:
            for arm, seed in comparison.runs:
                folder = comparison.folder(arm, seed)
                if folder.exists and comparison.is_ready(arm, seed):
                    number = num_samples[name_of(comparison.config)]
                    folder.require(comparison.run_config(arm, seed, number))

    def save(self) -> None:
        """Write each ``compare.json``; variants and seeds that earlier sweeps wrote there stay."""
        for comparison in self.comparisons:
            if (comparison.path / "compare.json").exists():
                comparison = _union(Comparison.load(comparison.path), comparison)
            comparison.save()


def name_of(config: TrainConfig) -> str:
    """What runs are called in a sweep, and their folder: by the recipe, else by table or data.

    Args:
        config: Their options.
    """
    if config.recipe:
        return config.recipe
    file = own_file(config.data, config.data_dir)
    if file is None:
        return f"{config.task}-{config.data}"
    return f"{file.stem}-{config.tabular.target}".replace("/", "-")  # the name of one folder


def _check_no_gap(there: range, wanted: range, path: Path) -> None:
    """Raise ``ValueError`` for seeds that would leave some between them and those of a folder out."""
    if wanted.start > there.stop or wanted.stop < there.start:
        raise ValueError(
            f"{path} has the seeds {there.start} to {there.stop - 1}, and {wanted.start} to "
            f"{wanted.stop - 1} are wanted, which leaves some between them out; choose another --out, "
            f"or give --seed {there.stop}"
        )


def _union(earlier: Comparison, wanted: Comparison) -> Comparison:
    """The wanted comparison with the variants, seeds and controls of an earlier one added."""
    variants = tuple(dict.fromkeys([*earlier.variants, *wanted.variants]))
    first = min(earlier.seeds.start, wanted.seeds.start)
    last = max(earlier.seeds.stop, wanted.seeds.stop)
    return replace(
        wanted,
        config=replace(wanted.config, seed=first),
        variants=variants,
        num_seeds=last - first,
        controls=earlier.controls or wanted.controls,
        also=tuple(dict.fromkeys([*earlier.also, *wanted.also])),
    )


@contextmanager
def helpers(num_helpers: int, arguments: Sequence[str]) -> Iterator[None]:
    """Share the work with processes that run the same command; each trains what no other is training.

    A process that is itself a helper starts none. The helpers are stopped at a step boundary if the
    block raises, and the block ends when they have ended.

    Args:
        num_helpers: How many processes to start, at least 0.
        arguments: The command line's arguments, with which each of them is started.
    """
    if HELPER in os.environ:
        num_helpers = 0
    threads = max(1, (os.cpu_count() or 1) // (num_helpers + 1))
    environment = {**os.environ, HELPER: "1", "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "infobatch.lab.cli", *arguments]
    if num_helpers:
        torch.set_num_threads(threads)
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(num_helpers)
    ]
    try:
        yield
    except BaseException:
        for process in processes:
            process.terminate()  # stops it at a step boundary, even if it had a signal
        raise
    finally:
        for process in processes:
            process.wait()
