"""Files that are replaced whole, so that a kill leaves the old one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it or remove its folder") from error


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Replace a file by what ``write`` writes, so that no one ever reads a half."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    write(part)
    os.replace(part, path)


def make_writable(path: Path) -> None:
    """Make the folder, or say why nothing can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> PermissionError:
    return PermissionError(f"nothing can be written to {path} ({error.strerror}); choose another --out")
