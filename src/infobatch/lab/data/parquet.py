"""Parquet files of the Hugging Face hub's layout, and tables of one's own: found or downloaded, read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infobatch.lab.data.locations import download, hub_remedy, places

MARKS = frozenset(";\t|")
"""What other programs part values by in place of commas."""


def find_splits(
    name: str,
    repository: str,
    folder: str,
    splits: Sequence[str],
    data_dir: Path | None,
    endings: Sequence[str] = (".parquet",),
) -> dict[str, list[Path]]:
    """The files of each split: in ``data_dir``, or downloaded where none is given.

    ``repository`` is empty for a set that is not on the hub, and ``folder`` holds the files there. The
    files of a split have one of the ``endings``.
    """
    wanted = " and ".join(" or ".join(f"{split}*{each}" for each in endings) for split in splits)
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
        found = {split: _of_one_kind(each, split, endings) for split in splits}
        if all(found.values()):
            return found
    raise FileNotFoundError(f"no {wanted} of {name} in {places(folders)}; {remedy}")


def _of_one_kind(folder: Path, split: str, endings: Sequence[str]) -> list[Path]:
    """The files of a split in a folder; ``ValueError`` if they have several endings."""
    found = [path for ending in endings for path in sorted(folder.glob(f"{split}*{ending}"))]
    if len({path.suffix for path in found}) > 1:
        raise ValueError(
            f"{folder} has {' and '.join(path.name for path in found)}: the same rows twice, perhaps; "
            "keep files of one kind"
        )
    return found


def read(path: Path, columns: Sequence[str]) -> Any:
    """A file's table, which has these columns and at least one row."""
    import pyarrow

    kind = path.suffix.lower().removeprefix(".")
    try:
        table = _READERS[path.suffix.lower()](path)
    except (pyarrow.ArrowException, OSError) as error:
        remedy = "part values by commas, as many in each row" if kind == "csv" else "get it again"
        raise ValueError(f"{path} is not a readable {kind} file ({error}); {remedy}") from error
    twice = [name for name in dict.fromkeys(table.column_names) if table.column_names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has several columns {twice[0]!r}; give each a name of its own")
    for column in columns:
        if column not in table.column_names:
            raise ValueError(
                f"{path} has no column {column!r} among {', '.join(table.column_names)}; check the "
                "name, and the file"
            )
    if table.num_rows == 0:
        raise ValueError(f"{path} holds no rows; get it again")
    return table


def _read_parquet(path: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path)


def _read_csv(path: Path) -> Any:
    """A file of values with commas between them; what is empty or NA is missing."""
    from pyarrow import csv, types

    table = csv.read_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(strings_can_be_null=True),
    )
    try:
        is_utf8 = bool(table.column_names) and not any(map(types.is_binary, table.schema.types))
    except UnicodeDecodeError:  # of a name
        is_utf8 = False
    if not is_utf8:
        raise ValueError(f"{path} has text that is not UTF-8; save it as CSV in UTF-8")
    if len(table.column_names) == 1 and not MARKS.isdisjoint(table.column_names[0]):
        raise ValueError(f"{path} has one column, {table.column_names[0]!r}; part its values by commas")
    named = [place for place, name in enumerate(table.column_names) if name]
    return table.select(named) if named else table


_READERS = {".parquet": _read_parquet, ".csv": _read_csv}
