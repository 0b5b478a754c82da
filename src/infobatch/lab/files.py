"""Files that are replaced whole, so that a killed process leaves the old one; damaged ones are named."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def naming_damaged(path: Path, remedy: str) -> Iterator[None]:
    """Read a file within this context, and errors of what it holds name the file and the remedy.

    Args:
        path: The file.
        remedy: What to do if it is damaged.

    Raises:
        ValueError: If the file does not hold what is read from it.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = repr(error) if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is damaged ({reason}); {remedy}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        ValueError: If it is not JSON.
    """
    with naming_damaged(path, "restore it or remove its folder"):
        return json.loads(path.read_text())


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Replace a file in one go, so that nobody ever reads half of it.

    Args:
        path: The file to replace.
        write: Writes the new content to the path it is given, which is another file beside ``path``.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    write(part)
    with suppress(OSError):  # some file systems have no modes
        part.chmod(0o666 & ~_umask())  # some writers let nobody else read
    os.replace(part, path)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def make_writable(path: Path) -> None:
    """Make a folder, and check that files can be written to it.

    Args:
        path: The folder.

    Raises:
        PermissionError: If nothing can be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        trial = path / ".writable"
        trial.touch()
        trial.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> PermissionError:
    """The error to raise where nothing can be written to a folder.

    Args:
        path: The folder.
        error: What the operating system said.

    Returns:
        An error that names the folder, the cause and the remedy.
    """
    return PermissionError(f"nothing can be written to {path} ({error.strerror}); choose another --out")
