"""Files that are replaced whole, so that a killed process leaves the old one; damaged ones are named."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

_OF_CONTENT = (ValueError, TypeError, KeyError, AttributeError, EOFError, RuntimeError)

FREE = "make room, or give write access"
"""What to do where a file cannot be written."""
GO_ON = f"{FREE}, and go on: with --resume, or a sweep or contest with the same command"
"""What to do where training ends by that."""
PART = ".part"
"""How the names of files end that are being written, or that a killed process left half written."""


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
    except torch.cuda.OutOfMemoryError:  # a RuntimeError, too
        raise
    except (*_OF_CONTENT, zipfile.BadZipFile) as error:
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


def finite(value: Any) -> Any:
    """A value for JSON, which has no word for numbers that are not finite: they become None.

    Args:
        value: What may be written as JSON.
    """
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_tensors(path: Path, remedy: str) -> dict[str, Any]:
    """Read what ``torch.save`` wrote, without pickle.

    Args:
        path: The file.
        remedy: What to do if it is damaged.

    Returns:
        The state, on the host.

    Raises:
        ValueError: If it cannot be read, or is no state.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, where the file is cut or none of torch's
        raise ValueError(f"{path} cannot be read ({type(error).__name__}); {remedy}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, and no state of a run; {remedy}")
    return state


def write_whole(path: Path, write: Callable[[Path], Any], remedy: str = GO_ON) -> None:
    """Replace a file in one go, so that nobody ever reads half of it.

    Args:
        path: The file to replace.
        write: Writes the new content to the path it is given, which is another file beside ``path``.
        remedy: What to do where it cannot be written.

    Raises:
        OSError: If it cannot be written, as on a full disk; the file is then as it was.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        with naming_unwritten(path, remedy):
            write(part)
            with suppress(OSError):  # some file systems have no modes
                part.chmod(0o666 & ~_umask())  # some writers let nobody else read
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text_whole(path: Path, text: str) -> None:
    """Replace a file by a text in one go: see :func:`write_whole`.

    Args:
        path: The file to replace.
        text: Its new content. Names of files that are no UTF-8 have characters that cannot be written,
            in place of which it has question marks.

    Raises:
        OSError: If it cannot be written.
    """
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8", errors="replace"), FREE)


@contextmanager
def naming_unwritten(path: Path, remedy: str = GO_ON) -> Iterator[None]:
    """Write a file or a folder within this context, and errors of the disk name it and the remedy.

    Args:
        path: What is written.
        remedy: What to do where it cannot be written.

    Raises:
        OSError: If the operating system refuses it.
    """
    try:
        yield
    except Exception as error:  # each library that writes files has a type of its own
        reason = _said_by_system(error)
        if reason is None:
            raise
        raise OSError(
            f"{path} cannot be written ({reason}), and what was there before is kept; {remedy}"
        ) from error


def _said_by_system(error: Exception) -> str | None:
    """What the operating system said, if an error comes from there."""
    cause = error if isinstance(error, OSError) else error.__context__
    if isinstance(cause, OSError):
        return cause.strerror
    words = str(error).splitlines()[0] if str(error) else ""
    if "inline_container" in words:  # torch's writer, which keeps the cause to itself
        return "no room left, or no access"
    return words if "os error" in words else None  # of safetensors


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
