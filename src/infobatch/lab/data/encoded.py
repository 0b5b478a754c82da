"""Encoded images in columns of parquet files: plain bytes, or beside a path, as the hub has them."""

from __future__ import annotations

from typing import Any


def check_encoded(kind: Any, what: str) -> bool:
    """Check that a column holds the bytes of image files.

    Args:
        kind: The column's type, one of pyarrow.
        what: What has it, for the error, as "the files have images".

    Returns:
        Whether each value is a struct that has the bytes as a field, and not the bytes themselves.

    Raises:
        ValueError: If it holds none.
    """
    import pyarrow.types as types

    is_struct = bool(types.is_struct(kind)) and kind.get_field_index("bytes") >= 0
    if not is_struct and not types.is_binary(kind) and not types.is_large_binary(kind):
        raise ValueError(f"{what} of type {kind}; they must hold the bytes of image files")
    return is_struct


def encoded_of(column: Any, what: str) -> Any:
    """The bytes of the images in a column: chunks of one type of pyarrow.

    Args:
        column: A chunked array.
        what: What has it, for the error.

    Raises:
        ValueError: If it holds none.
    """
    import pyarrow
    import pyarrow.compute as compute

    found = compute.struct_field(column, "bytes") if check_encoded(column.type, what) else column
    return found.cast(pyarrow.large_binary())
