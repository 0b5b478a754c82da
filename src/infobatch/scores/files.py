"""Per-sample columns in files: one row a sample, in the order of their indices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.scores.table import ScoreTable


def export_table(path: str | Path, columns: Mapping[str, Tensor]) -> Path:
    """Write tensors of shape (N,) as the columns of a ``.parquet`` or ``.npz`` file."""
    path = Path(path)
    arrays = {name: values.numpy() for name, values in columns.items()}
    if path.suffix == ".npz":
        np.savez_compressed(path, allow_pickle=False, **arrays)
    elif path.suffix == ".parquet":
        pyarrow, parquet = _import_parquet()
        parquet.write_table(pyarrow.table(arrays), path)
    else:
        raise _unknown_format(path)
    return path


def read_scores(path: str | Path) -> ScoreTable:
    """The last losses of a file written by :func:`export_table`, or of any with such a column."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; give the scores that a run exported")
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    elif path.suffix == ".parquet":
        _, parquet = _import_parquet()
        table = parquet.read_table(path)
        arrays = {name: table[name].to_numpy() for name in table.column_names}
    else:
        raise _unknown_format(path)
    if "last_loss" not in arrays:
        raise ValueError(
            f"{path} has columns {', '.join(arrays)}, but no 'last_loss'; name the column of "
            "per-sample losses so"
        )
    return ScoreTable.from_losses(torch.from_numpy(np.array(arrays["last_loss"], np.float32)))


def _unknown_format(path: Path) -> ValueError:
    return ValueError(f"{path} ends in {path.suffix!r}; name it .npz or .parquet")


def _import_parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "parquet files need pyarrow: pip install 'infobatch[parquet]', or use .npz"
        ) from error
    return pyarrow, pyarrow.parquet
