"""Parquet files of the Hugging Face hub's layout: found in a folder or downloaded, and read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infobatch.lab.data.locations import download, hub_remedy, places


def find_splits(
    name: str, repository: str, folder: str, splits: Sequence[str], data_dir: Path | None
) -> dict[str, list[Path]]:
    """The files of each split: in ``data_dir``, or downloaded where none is given.

    ``repository`` is empty for a set that is not on the hub, and ``folder`` holds the files there.
    """
    wanted = " and ".join(f"{split}*.parquet" for split in splits)
    if data_dir is not None:
        inside = data_dir / name
        folders = [inside, inside / folder, data_dir / folder, data_dir]
        remedy = hub_remedy(repository) if repository else "give --data-dir the folder that has them"
    elif repository:
        folders = [download(name, repository, f"{folder}/*.parquet") / folder]
        remedy = "give --data-dir a folder with them"
    else:
        raise FileNotFoundError(
            f"{name} is not downloaded; give --data-dir a folder that has {name}/ with {wanted}"
        )
    for each in folders:
        found = {split: sorted(each.glob(f"{split}*.parquet")) for split in splits}
        if all(found.values()):
            return found
    raise FileNotFoundError(f"no {wanted} of {name} in {places(folders)}; {remedy}")


def read(name: str, path: Path, columns: Sequence[str]) -> Any:
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
                f"{name} needs {' and '.join(map(repr, columns))}"
            )
    if table.num_rows == 0:
        raise ValueError(f"{path} holds no rows; download it again")
    return table
