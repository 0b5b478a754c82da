"""Runs of several ways to train, side by side: what the benchmarks that compare them share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infobatch.lab.comparison.variants import FULL, PRUNED, Arm, Variant
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.paired import Difference
from infobatch.lab.report.reading import read_run
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.train import train


def run(config: TrainConfig, data: Data, path: Path) -> None:
    """Train it, unless it is there or another process is at it."""
    folder = RunFolder(path)
    if folder.finished or not folder.claim():
        return
    if not folder.exists:
        folder.create(config)
    folder.require(config)
    train(config, data, folder)
    folder.release()


def finished(name: str, base: Path, seeds: Sequence[int]) -> ArmRuns:
    """The finished runs of one way to train."""
    folders = {seed: RunFolder(base / name / f"seed-{seed}") for seed in seeds}
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


def print_rows(rows: Sequence[Row], arms: dict[str, ArmRuns]) -> None:
    """A line for each way to train."""
    width = max(len(row.name) for row in rows)
    for row in rows:
        arm, noise = arms[row.name], "" if row.noise is None else f"{row.noise:.2f}"
        print(
            f"{row.name:{width}} {arm.result:8.4f} ± {arm.deviation:6.4f} {row.saved:6.1%} saved "
            f"{noise:5} {row.against_full:32} {row.against_other}",
            flush=True,
        )
