"""Runs of several ways to train, side by side: what the benchmarks that compare them share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from infobatch.lab.comparison.variants import FULL, PRUNED, Arm, Variant
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.devices import resolve_device
from infobatch.lab.recipes import find_recipe
from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.paired import Difference
from infobatch.lab.report.reading import read_run
from infobatch.lab.runs.environment import describe_environment
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.train import train


def parser(doc: str, recipe: str, out: str) -> argparse.ArgumentParser:
    """A parser of the options that all of them have, by the text of a module, with two defaults."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--recipe", default=recipe)
    made.add_argument("--epochs", type=float, help="by default the recipe's")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--seed", type=int, default=0, help="the first (default 0)")
    made.add_argument("--data-dir", type=Path, metavar="DIR")
    made.add_argument("--device", default="auto")
    made.add_argument("--out", type=Path, default=Path(out), metavar="FOLDER")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    return made


def base_of(options: argparse.Namespace, **more: Any) -> TrainConfig:
    """The recipe with those options, and others."""
    base = find_recipe(options.recipe).config()
    typed = {"data_dir": options.data_dir, "device": options.device}
    return replace(base, epochs=options.epochs or base.epochs, **typed, **more)


def seeds_of(options: argparse.Namespace) -> range:
    return range(options.seed, options.seed + options.seeds)


def measure(configs: Mapping[str, TrainConfig], data: Data, options: argparse.Namespace) -> None:
    """Train each way with each seed, unless it is there or another process is at it."""
    for seed in seeds_of(options):
        for name, config in configs.items():
            _run(replace(config, seed=seed), data, options.out / name / f"seed-{seed}")


def _run(config: TrainConfig, data: Data, path: Path) -> None:
    folder = RunFolder(path)
    if folder.finished or not folder.claim():
        return
    if not folder.exists:
        folder.create(config)
    folder.require(config)
    train(config, data, folder)
    folder.release()


def finished(name: str, options: argparse.Namespace) -> ArmRuns:
    """The finished runs of one way to train."""
    folders = {seed: RunFolder(options.out / name / f"seed-{seed}") for seed in seeds_of(options)}
    arm = Arm(FULL) if name == FULL else Arm(PRUNED, Variant(name))
    runs = {seed: read_run(folder) for seed, folder in folders.items() if folder.finished}
    return ArmRuns(arm, name, runs)


@dataclass(frozen=True)
class Row:
    """One way to train: ``results`` by seed; ``saved`` of full data, and ``noise``, if known, are means.

    ``against_full`` and ``against_other``: paired differences to full data and to another way.
    """

    name: str
    results: dict[int, float]
    saved: float
    noise: float | None
    against_full: str
    against_other: str

    @classmethod
    def of(cls, arm: ArmRuns, full: ArmRuns, other: ArmRuns) -> Row:
        results = {seed: run.summary.result for seed, run in arm.runs.items()}
        of_full = full if full.runs else arm  # a shorter run counts as full what it trains
        saved = 1 - arm.mean("num_trained") / of_full.mean("num_full")
        to_other = "" if full is arm or full is other else _difference(arm, other)
        return cls(arm.label, results, saved, arm.noise, _difference(arm, full), to_other)


def _difference(ours: ArmRuns, theirs: ArmRuns) -> str:
    return "" if ours is theirs else str(Difference.of(ours.runs, theirs.runs) or "")


def report(
    others: Mapping[str, str],
    against: str,
    options: argparse.Namespace,
    asked: Sequence[str],
    base: TrainConfig,
) -> None:
    """Print a line for each way to train that has finished runs, and write them.

    ``others`` has for each way the one that it is compared with beside full data, and ``against`` says
    which that is.
    """
    arms = {name: finished(name, options) for name in others}
    rows = [Row.of(arm, arms[FULL], arms[others[name]]) for name, arm in arms.items() if arm.runs]
    metric = next(run.metric for arm in arms.values() for run in arm.runs.values())
    print(f"{metric.name}, {options.seeds} seeds; against full data, and against {against}")
    width = max(len(row.name) for row in rows)
    for row in rows:
        arm, noise = arms[row.name], "" if row.noise is None else f"{row.noise:.2f}"
        print(
            f"{row.name:{width}} {arm.result:8.4f} ± {arm.deviation:6.4f} {row.saved:6.1%} saved "
            f"{noise:5} {row.against_full:32} {row.against_other}",
            flush=True,
        )
    write(options, asked, base, metric=metric.name, results=[asdict(row) for row in rows])


def write(options: argparse.Namespace, asked: Sequence[str], base: TrainConfig, **found: Any) -> None:
    """Write what was found to --json, if it was given, with the options asked for and the machine."""
    if not options.json:
        return
    given = {name: getattr(options, name) for name in asked}
    given |= {"epochs": base.epochs, "seeds": list(seeds_of(options))}
    environment = describe_environment(resolve_device(base.device))
    written = {"options": given, "environment": environment, **found}
    options.json.write_text(json.dumps(written, indent=1) + "\n")
