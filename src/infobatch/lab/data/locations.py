"""Where data sets lie: in a local folder, or on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def places(folders: Sequence[Path]) -> str:
    """Where something was looked for, in words."""
    none = "" if any(folder.is_dir() for folder in folders) else " (there is no such folder)"
    return " or ".join(map(str, dict.fromkeys(folders))) + none


def hub_remedy(repository: str) -> str:
    """What to do about files that a local folder lacks and the hub has."""
    return (
        f"download them from huggingface.co/datasets/{repository}, or leave --data-dir out to have that "
        "done"
    )


def download(name: str, repository: str, files: str) -> Path:
    """The local copy of a repository's ``files``, a glob pattern; downloaded unless it is there."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, repo_type="dataset", allow_patterns=files))
    except Exception as error:
        raise download_error(name, repository, error) from error


def download_error(
    name: str, repository: str | None, error: Exception, remedy: str = "check the connection"
) -> ConnectionError:
    """The error to raise for a data set that could not be downloaded."""
    return ConnectionError(
        f"{name} could not be downloaded from huggingface.co/datasets/{repository} "
        f"({type(error).__name__}); {remedy}, or give --data-dir with its files"
    )
