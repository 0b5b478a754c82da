"""Files of indices, which say on which samples of a training set to train."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from torch import Tensor


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
