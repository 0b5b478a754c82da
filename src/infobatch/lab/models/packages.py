"""Packages that only some tasks need, and what they save with a model."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any


def import_for(purpose: str, package: str) -> Any:
    """Import a package; the error names its purpose, such as ``"--task mae"``, and the remedy."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(f"{purpose} needs {error.name}: pip install 'infobatch[tasks]'") from error


def read_config(name: str, wanted: str) -> dict[str, Any]:
    """The config.json in a model's folder; the error says what is ``wanted`` of --model."""
    try:
        values = json.loads((Path(name) / "config.json").read_text())
        if not isinstance(values, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--model is {name}, whose config.json cannot be read ({error}); give {wanted}"
        ) from error
    return values
