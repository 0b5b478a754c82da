"""Files that hold tables, .parquet and .csv: how they are named and read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infobatch.lab.data.schema import is_text

OWN_TABLE = "table"
"""The name of a table of the user's own."""
ENDINGS = (".parquet", ".csv")
"""The kinds of files that hold tables."""
MARKS = frozenset(";\t|")
"""What other programs part values by in place of commas."""
_UNREAD = r"tsv|xlsx?|feather|(?:csv|tsv|parquet)\.(?:gz|bz2|xz|zst|zip)"
_NAMED = re.compile(rf"(.*?\.(?:csv|parquet|{_UNREAD}))(?::(.*))?", re.IGNORECASE)
"""A file and, it may be, a column of it."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""How a text in UTF-16 begins."""


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
    if not file.lower().endswith(ENDINGS):
        raise ValueError(f"{file} is no {' or '.join(ENDINGS)} file; unpack it, or save it as one")
    if not column:
        names = ", ".join(read_table(Path(file), ()).column_names)
        raise ValueError(f"{file} is a table; name the column to predict, as {file}:COLUMN: {names}")
    return Path(file), column


def read_table(path: Path, columns: Sequence[str], like: Any = None) -> Any:
    """A file's table, which has these columns and at least one row.

    What is text in the schema ``like``, one of pyarrow, is read as text from a ``.csv`` file, too, whose
    values may look like numbers.
    """
    import pyarrow

    kind = path.suffix.lower().removeprefix(".")
    try:
        table = _READERS[path.suffix.lower()](path, like)
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


def _read_parquet(path: Path, like: Any) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path)


def _read_csv(path: Path, like: Any) -> Any:
    """A file of values with commas between them; what is empty or NA is missing."""
    import pyarrow
    from pyarrow import csv

    with path.open("rb") as file:
        if file.read(2) in _UTF_16:
            raise ValueError(f"{path} is in UTF-16; save it as CSV in UTF-8")
    texts = {field.name: pyarrow.string() for field in like or () if is_text(field.type)}
    table = csv.read_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            check_utf8=False, strings_can_be_null=True, column_types=texts
        ),
    )
    try:
        names = table.column_names
        table.validate(full=True)
    except (UnicodeDecodeError, pyarrow.ArrowInvalid) as error:  # of a name, or of a value
        raise ValueError(f"{path} has text that is not UTF-8; save it as CSV in UTF-8") from error
    if len(names) == 1 and not MARKS.isdisjoint(names[0]):
        raise ValueError(f"{path} has one column, {names[0]!r}; part its values by commas")
    named = [place for place, name in enumerate(names) if name]
    return table.select(named) if named else table


_READERS = {".parquet": _read_parquet, ".csv": _read_csv}
