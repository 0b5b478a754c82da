"""Where data sets lie, in a local folder or on the Hugging Face hub, and the files of their splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

MOST_NAMED = 5


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


def places(folders: Sequence[Path]) -> str:
    """Where something was looked for, in words."""
    none = "" if any(folder.is_dir() for folder in folders) else " (there is no such folder)"
    return " or ".join(map(str, dict.fromkeys(folders))) + none


def some(names: Sequence[str], kind: str) -> str:
    """How many there are of a kind, and the first names of them."""
    shown = ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")
    plural = kind if len(names) == 1 else f"{kind}es" if kind.endswith("s") else f"{kind}s"
    return f"{len(names):,} {plural} ({shown})"


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
