"""Parquet files of the Hugging Face hub's layout: found in a folder, downloaded, read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def find(
    name: str, folders: Sequence[Path], splits: Sequence[str], remedy: str
) -> dict[str, list[Path]]:
    """The files of each split in the first of the ``folders`` that has them all; else an error."""
    for folder in folders:
        found = {split: sorted(folder.glob(f"{split}*.parquet")) for split in splits}
        if all(found.values()):
            return found
    raise FileNotFoundError(
        f"no {' and '.join(f'{split}*.parquet' for split in splits)} of {name} in "
        f"{places(folders)}; {remedy}"
    )


def places(folders: Sequence[Path]) -> str:
    """Where something was looked for, in words."""
    none = "" if any(folder.is_dir() for folder in folders) else " (there is no such folder)"
    return " or ".join(map(str, dict.fromkeys(folders))) + none


def download(name: str, repository: str, folder: str) -> Path:
    """Where the hub's files of a data set lie, once they are there."""
    from huggingface_hub import snapshot_download

    try:
        root = snapshot_download(repository, repo_type="dataset", allow_patterns=f"{folder}/*.parquet")
    except Exception as error:
        raise ConnectionError(
            f"{name} could not be downloaded from huggingface.co/datasets/"
            f"{repository} ({type(error).__name__}); check the connection, or give "
            "--data-dir with its parquet files"
        ) from error
    return Path(root) / folder


def read(name: str, path: Path, columns: tuple[str, str]) -> Any:
    """A file's table, which has these columns and at least one row."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} is not a readable parquet file ({error}); download it again"
        ) from error
    for column in columns:
        if column not in table.column_names:
            raise ValueError(
                f"{path} has columns {', '.join(table.column_names)}, but no {column!r}; "
                f"{name} needs {columns[0]!r} and {columns[1]!r}"
            )
    if table.num_rows == 0:
        raise ValueError(f"{path} holds no rows; download it again")
    return table
