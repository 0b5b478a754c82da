"""Tables of the user's own, in one file: how they are named."""

from __future__ import annotations

import re
from pathlib import Path

from infobatch.lab.data import parquet

OWN_TABLE = "table"
"""The name of a table of the user's own."""
ENDINGS = (".parquet", ".csv")
"""The kinds of files that hold tables."""
_NAMED = re.compile(r"(.*?\.(?:csv|parquet))(?::(.*))?", re.IGNORECASE)
"""A file and, it may be, a column of it."""


def is_table(text: str) -> bool:
    """Whether a text names a file of a table, as ``FILE.csv:COLUMN`` or without the column."""
    return _NAMED.fullmatch(text) is not None


def own_file(data: str, data_dir: Path | None) -> Path | None:
    """The file of a table of the user's own; None for other data, and for one in a folder."""
    is_file = data == OWN_TABLE and data_dir is not None and data_dir.suffix.lower() in ENDINGS
    return data_dir if is_file else None


def named_table(text: str) -> tuple[Path, str]:
    """The file of a table, and the column to predict, that a text names.

    Args:
        text: ``FILE.csv:COLUMN`` or ``FILE.parquet:COLUMN``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If no column is named, or the file is no table.
    """
    named = _NAMED.fullmatch(text)
    file, column = named.groups(default="") if named else (text, "")
    if not Path(file).is_file():
        raise FileNotFoundError(f"there is no file {file}; check the name")
    if not column:
        names = ", ".join(parquet.read(Path(file), ()).column_names)
        raise ValueError(f"{file} is a table; name the column to predict, as {file}:COLUMN: {names}")
    return Path(file), column
