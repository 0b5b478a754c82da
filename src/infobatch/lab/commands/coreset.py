"""The command that chooses a part of a training set by what was recorded of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from infobatch.dynamics import read_dynamics
from infobatch.dynamics.coreset import coreset as choose_coreset
from infobatch.lab.commands.arguments import OptionalPath, PositionalPath
from infobatch.lab.commands.console import console
from infobatch.lab.commands.loading import load
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.files import FREE, make_writable, write_whole
from infobatch.lab.runs.folder import RunFolder, check_is_one_run
from infobatch.lab.runs.sources import check_data

PARTS = ("subset", "held_out", "train_samples", "imbalance")
"""Options by which a run trains a part of its set, in which samples have other indices."""


def coreset(
    run: PositionalPath,
    keep: float,
    by: str = "mean_loss",
    prefer: Literal["hard", "easy"] = "hard",
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("coreset.json"),
    data_dir: OptionalPath = None,
) -> None:
    """Choose a part of the training set by a signal of a recorded run, for `--subset` and other tools.

    Args:
        run: Folder of a run that was trained with --record, or of the epochs that record_to= wrote.
        keep: Share of the samples to keep, above 0 and below 1.
        by: The signal: times_trained, times_left_out, first_loss, last_loss, mean_loss, std_loss,
            confidence, variability and, where margins were recorded, correctness, forgetting,
            learned_epoch or aum.
        prefer: Which samples to keep: the hard ones, among them most wrong labels, or the easy ones.
        out: The file: .json is a list of indices; .csv has a column index, and the signals.
        data_dir: Folder of the data, if it is another one than in training. The data are read where the
            run trained a part of them, for the indices to be those of the whole set.
    """
    if out.suffix not in (".json", ".csv"):
        raise ValueError(f"--out is {out}; name it .json or .csv")
    if out.exists():
        raise FileExistsError(f"{out} is there already; choose another --out")
    check_is_one_run(run)
    dynamics = read_dynamics(run)
    signals = dynamics.signals()
    rows = choose_coreset(signals, keep, by, prefer)
    make_writable(out.parent)
    inside = RunFolder(run.parent)
    folder = inside if inside.exists else RunFolder(run)
    indices = _indices_of(folder, dynamics.num_samples, data_dir)
    table = {name: values[rows] for name, values in {**signals, "index": indices}.items()}
    write_whole(out, lambda path: _write(path, table, out.suffix), FREE)
    console.print(
        f"{out} has {len(rows):,} of {dynamics.num_samples:,} samples, the {prefer} ones by {by}. "
        f"To train on them, give `infobatch train` the same data and --subset {out}",
        soft_wrap=True,
    )
    console.print(
        "A static subset leaves out the same samples in every epoch: its gradient is biased, and what "
        "it lacks is never learned. Compare it with random samples (--train-samples), and with pruning "
        "that changes from epoch to epoch (`infobatch compare`), before you rely on it."
    )


def _indices_of(folder: RunFolder, num_samples: int, data_dir: Path | None) -> np.ndarray:
    """The indices in the whole training set of the samples that a run trained, int64 (N,).

    Raises:
        ValueError: If the data, or the file of its subset, have changed since.
    """
    if not folder.exists:  # recorded by a loop of the user's own
        return np.arange(num_samples)
    config = folder.config()
    is_whole = all(getattr(config, name) == getattr(TrainConfig, name) for name in PARTS)
    if is_whole and not config.tuning.skip_bad:
        return np.arange(num_samples)
    if data_dir is not None:
        config = replace(config, data_dir=data_dir)
    check_data(config)
    data = load(config)
    if len(data.train) != num_samples:
        raise ValueError(
            f"{folder.path} was recorded of {num_samples:,} samples, and its options now choose "
            f"{len(data.train):,}: the data or the file of --subset have changed since; put them back"
        )
    return np.arange(num_samples) if data.origin is None else data.origin.numpy()


def _write(path: Path, table: Mapping[str, np.ndarray], suffix: str) -> None:
    if suffix == ".json":
        path.write_text(json.dumps(table["index"].tolist()) + "\n")
        return
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*(values.tolist() for values in table.values()), strict=True))
