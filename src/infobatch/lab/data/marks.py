"""Marks of data that only their folder tells apart, so that runs on others are not taken for them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from infobatch.lab.data.folders import TEST_NAMES
from infobatch.lab.data.instructions import SUFFIXES
from infobatch.lab.data.table_files import ENDINGS, OWN_TABLE

OWN_DATA = ("images", OWN_TABLE, "instructions")
"""What is trained on is not told by these names, but by the folder."""
_KINDS = (*ENDINGS, *SUFFIXES)
_NUM_SIZES = 1000
"""Of more images than these only some are asked for their size, which takes its time."""


def mark_of(data: str, folder: Path | None, test: str = "") -> str:
    """A mark of the data in a folder: the same wherever the folder is.

    Args:
        data: The name of the data set.
        folder: The folder that holds it, or that holds a folder of its name; or its one file.
        test: The name of the folder of images to evaluate on, where it has another than the usual ones.

    Returns:
        12 hexadecimal digits, made of the content of tables and instructions, and of the names and sizes
        of images. Empty for data that their name tells, and where there is no file.
    """
    if data not in OWN_DATA or folder is None:
        return ""
    root = folder / data if (folder / data).is_dir() else folder
    files = [root] if root.is_file() else sorted(_files_in(root, test))
    files = files or sorted((root / "data").glob("*.parquet"))  # the layout of the hub
    digest = hashlib.sha256()
    for number, file in enumerate(files):
        if file != root:
            digest.update(
                f"{Path(os.path.relpath(file, root)).as_posix()}\n".encode(errors="surrogateescape")
            )
        if data != "images":
            _add_content(digest, file)
        elif number % (1 + len(files) // _NUM_SIZES) == 0:
            digest.update(f"{file.stat().st_size}\n".encode())
    return digest.hexdigest()[:12] if files else ""


def _add_content(digest: hashlib._Hash, file: Path) -> None:
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)


def _files_in(root: Path, test: str) -> Iterator[Path]:
    """The files of data in a folder, those of the folders of its splits and of their classes."""
    yield from (path for path in root.glob("*") if path.suffix.lower() in _KINDS and path.is_file())
    for split in dict.fromkeys(["train", *TEST_NAMES, *([test] if test else [])]):
        for pattern in ("*", "*/*"):
            yield from (path for path in (root / split).glob(pattern) if path.is_file())
