"""Score columns in files, with one row for each sample, in the order of the dataset."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.scores.columns import COLUMNS
from infobatch.scores.table import ScoreTable


def export_table(path: str | Path, columns: Mapping[str, Tensor]) -> Path:
    """Write the columns of a file.

    Args:
        path: Its name ends in ``.parquet`` or ``.npz``.
        columns: Tensors (N,) on the host, by name.

    Returns:
        The path.

    Raises:
        ValueError: If the name has another ending.
        ImportError: If pyarrow, which parquet files need, is not installed.
    """
    path = Path(path)
    arrays = {name: values.numpy() for name, values in columns.items()}
    if path.suffix == ".npz":
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # of an option that NumPy 2 has
    elif path.suffix == ".parquet":
        pyarrow, parquet = import_parquet()
        parquet.write_table(pyarrow.table(arrays), path)
    else:
        raise _unknown_format(path)
    return path


def read_scores(path: str | Path) -> ScoreTable:
    """Read the scores in a file.

    Args:
        path: a ``.parquet`` or ``.npz`` file with a column ``last_loss``, (N,), such as
            :meth:`DynamicPruner.export` writes.

    Returns:
        A score table of N samples with these losses, and with the other score columns of the file. A
        loss that is infinite is no score, as if it were NaN.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file's name has another ending, or it is damaged or has no such column.
        ImportError: If pyarrow, which parquet files need, is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; give the scores that a run exported")
    if path.suffix not in READERS:
        raise _unknown_format(path)
    try:
        arrays = READERS[path.suffix](path)
    except DAMAGED as error:
        raise ValueError(
            f"{path} cannot be read as {path.suffix} ({type(error).__name__}); export the scores again"
        ) from error
    if "last_loss" not in arrays:
        raise ValueError(
            f"{path} has columns {', '.join(arrays)}, but no 'last_loss'; name the column of "
            "per-sample losses so"
        )
    found = {name: _numbers(name, arrays, path) for name in COLUMNS if _is_there(name, arrays)}
    losses = torch.from_numpy(found["last_loss"])
    table = ScoreTable.from_losses(losses, list(dict.fromkeys(["last_loss", "visits", *found])))
    for name, numbers in found.items():
        known = np.where(np.isfinite(numbers), numbers, COLUMNS[name].initial)
        table.write(name, known.astype(COLUMNS[name].dtype))
    return table


def _of_npz(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _of_parquet(path: Path) -> dict[str, np.ndarray]:
    pyarrow, parquet = import_parquet()
    try:
        table = parquet.read_table(path)
    except pyarrow.ArrowException as error:  # of which some are no ValueError
        raise ValueError(str(error)) from error
    return {name: table[name].to_numpy() for name in table.column_names}


READERS = {".npz": _of_npz, ".parquet": _of_parquet}
"""What reads the arrays of a file, by its ending."""
DAMAGED = (ValueError, AttributeError, TypeError, EOFError, OSError, zipfile.BadZipFile)
"""What they raise for a damaged one."""


def _parts(name: str) -> list[str]:
    """The arrays of a file that a score column is written as."""
    width = COLUMNS[name].width
    return [name] if width == 1 else [f"{name}_{place}" for place in range(width)]


def _is_there(name: str, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a file has all arrays of a score column."""
    return all(part in arrays for part in _parts(name))


def _numbers(name: str, arrays: Mapping[str, np.ndarray], path: Path) -> np.ndarray:
    """A score column among the arrays of a file, float32 or float64, (N,) or (N, width)."""
    dtype = np.float32 if COLUMNS[name].dtype == np.float32 else np.float64
    for part in _parts(name):
        values, shape = arrays[part], (arrays["last_loss"].size,)
        if values.dtype.kind not in "biuf" or values.shape != shape:
            raise ValueError(
                f"{part} in {path} is of shape {values.shape} and dtype {values.dtype}; it must have "
                f"one number for each of {shape[0]:,} samples"
            )
    columns = [np.array(arrays[part], dtype) for part in _parts(name)]
    return columns[0] if COLUMNS[name].width == 1 else np.stack(columns, 1)


def _unknown_format(path: Path) -> ValueError:
    return ValueError(f"{path} ends in {path.suffix!r}; name it .npz or .parquet")


def import_parquet() -> tuple[Any, Any]:
    """Import pyarrow and its module for Parquet; ``ImportError`` names the remedy."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Parquet files need pyarrow: pip install 'infobatch[parquet]'. Recorded epochs are such "
            "files; scores may be .npz instead"
        ) from error
    return pyarrow, pyarrow.parquet
