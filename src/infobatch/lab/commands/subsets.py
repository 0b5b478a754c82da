"""Subsets of a training set: files of indices, and coresets made of a run's signals."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from infobatch.dynamics import read_dynamics
from infobatch.dynamics.coreset import coreset as choose_coreset
from infobatch.lab.commands.arguments import PositionalPath
from infobatch.lab.commands.console import console
from infobatch.lab.config.train import TrainConfig, flag
from infobatch.lab.files import write_whole
from infobatch.lab.runs.folder import RunFolder

PARTS = ("held_out", "train_samples", "imbalance")
"""Options by which a run trains a part of its set, whose indices are not those of the set."""


def coreset(
    run: PositionalPath,
    keep: float,
    by: str = "mean_loss",
    prefer: Literal["hard", "easy"] = "hard",
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("coreset.json"),
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
    """
    if out.suffix not in (".json", ".csv"):
        raise ValueError(f"--out is {out}; name it .json or .csv")
    if out.exists():
        raise FileExistsError(f"{out} is there already; choose another --out")
    dynamics = read_dynamics(run)
    inside = RunFolder(run.parent)
    indices = _indices_of(inside if inside.exists else RunFolder(run), dynamics.num_samples)
    signals = dynamics.signals()
    rows = choose_coreset(signals, keep, by, prefer)
    table = {name: values[rows] for name, values in {**signals, "index": indices}.items()}
    write_whole(out, lambda path: _write(path, table, out.suffix))
    console.print(
        f"{out} has {len(rows):,} of {dynamics.num_samples:,} samples, the {prefer} ones by {by}: "
        f"infobatch train --subset {out}",
        soft_wrap=True,
    )
    console.print(
        "A static subset leaves out the same samples in every epoch: its gradient is biased, and what "
        "it lacks is never learned. Compare it with random samples (--train-samples), and with pruning "
        "that changes from epoch to epoch (`infobatch compare`), before you rely on it."
    )


def read_subset(path: Path, num_samples: int) -> Tensor:
    """Read the indices of a subset from a file.

    Args:
        path: A ``.csv`` file with a column ``index``, or else one that holds a JSON list; each index
            once.
        num_samples: N, the number of samples from which they are chosen.

    Returns:
        The indices in [0, N), int64, in increasing order.

    Raises:
        ValueError: If the file cannot be read, or holds anything else.
    """
    indices = read_indices(path)
    chosen = torch.tensor(sorted(set(indices)))
    outside = [index for index in indices if not 0 <= index < num_samples]
    if outside:
        raise ValueError(
            f"--subset {path} has the index {outside[0]}, but the training set has {num_samples:,} "
            f"samples; give indices in 0..{num_samples - 1}"
        )
    if len(chosen) < len(indices):
        raise ValueError(
            f"--subset {path} has {len(indices):,} indices, of which {len(chosen):,} are different; "
            "give each once"
        )
    return chosen


def read_indices(path: Path) -> list[int]:
    """Read what the file of a ``--subset`` holds; ``ValueError`` if it cannot be read."""
    return _from_csv(path) if path.suffix == ".csv" else _from_json(path)


def _from_json(path: Path) -> list[int]:
    try:
        indices = json.loads(path.read_text(encoding="utf-8-sig"))  # editors may have put a mark
    except (OSError, ValueError) as error:
        raise ValueError(f"--subset {path} cannot be read as JSON ({error}); give a list") from error
    if not isinstance(indices, list) or not indices or not all(type(i) is int for i in indices):
        raise ValueError(f"--subset {path} holds no list of indices; give one such as [0, 3, 4]")
    return indices


def _from_csv(path: Path) -> list[int]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # as spreadsheets save it
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"--subset {path} cannot be read as CSV ({error})") from error
    if not rows or "index" not in rows[0]:
        raise ValueError(f"--subset {path} has no column 'index'; name the column of the indices so")
    try:
        return [int(row["index"]) for row in rows]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"--subset {path} has an index that is no whole number ({error}); give indices such as 3"
        ) from error


def _indices_of(folder: RunFolder, num_samples: int) -> np.ndarray:
    """The indices in the whole training set of the samples that a run trained, int64 (N,).

    Raises:
        ValueError: If it trained on a part of its set that was drawn, or the file of its subset changed.
    """
    if not folder.exists:  # recorded by a loop of the user's own
        return np.arange(num_samples)
    config = folder.config()
    for name in PARTS:
        if getattr(config, name) != getattr(TrainConfig, name):
            raise ValueError(
                f"{folder.path} was trained with {flag(name)} {getattr(config, name)}, on a part of its "
                "set that was drawn, so that its indices are not those that --subset reads; record a "
                "run on all of the set, or on a --subset"
            )
    if config.subset is None:
        return np.arange(num_samples)
    indices = np.sort(read_indices(config.subset))
    if len(indices) != num_samples:
        raise ValueError(
            f"{config.subset} has {len(indices):,} indices, and {folder.path} was trained with --subset "
            f"on {num_samples:,}: the file has changed since; put it back"
        )
    return indices


def _write(path: Path, table: Mapping[str, np.ndarray], suffix: str) -> None:
    if suffix == ".json":
        path.write_text(json.dumps(table["index"].tolist()) + "\n")
        return
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*(values.tolist() for values in table.values()), strict=True))
