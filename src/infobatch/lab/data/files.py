"""Image sets too large for memory: folders of images, or parquet files of the hub's layout."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.lab.data.base import by_name
from infobatch.lab.data.images import check_labels
from infobatch.lab.data.locations import download_error
from infobatch.lab.data.streamed import EncodedImages, StreamedData


@dataclass(frozen=True)
class FileSet:
    """A set in folders ``train`` and ``val``, or in ``train*.parquet`` and ``validation*.parquet``.

    The folders hold one folder for each class. Files of a user's own may have no labels: then the images
    lie in ``train`` and ``val`` themselves, or the parquet files have no column ``label``.

    Args:
        name: The name that the set is loaded by.
        repository: Its repository on the hub; None for files of a user's own.
        num_classes: How many classes it has; None for as many as the training images have.
        download: The size of its download, and what else it takes, in words.
    """

    name: str
    repository: str | None = None
    num_classes: int | None = None
    download: str = ""

    def __call__(self, data_dir: Path | None) -> StreamedData:
        if data_dir is None and self.repository is None:
            raise FileNotFoundError(
                f"--data {self.name} is for files of your own; give --data-dir, a folder with train/ "
                "and val/, or with train*.parquet and validation*.parquet"
            )
        root = data_dir / self.name if data_dir and (data_dir / self.name).is_dir() else data_dir
        if root and (root / "train").is_dir():
            return self._read_folders(root)
        return self._read_parquet(root)

    def _read_folders(self, root: Path) -> StreamedData:
        class_names = tuple(sorted(path.name for path in (root / "train").iterdir() if path.is_dir()))
        if not class_names and self.repository is not None:
            raise FileNotFoundError(f"{root / 'train'} holds no folders; it must hold one a class")
        train, test = (_read_folder(root / split, class_names) for split in ("train", "val"))
        return StreamedData(self.name, train, test, class_names)

    def _read_parquet(self, root: Path | None) -> StreamedData:
        splits = {split: self._rows(root, split) for split in ("train", "validation")}
        rows, _ = splits["train"]
        labelled = "label" in rows.column_names
        if not labelled and self.repository is not None:
            raise ValueError(_no_column(self.name, "train", rows, "label"))
        class_names = self._class_names(rows) if labelled else ()
        parts = {}
        for split, (rows, shards) in splits.items():
            labels = torch.full((len(rows),), -1)
            source = _Rows(_encoded(rows), split, shards)
            if labelled:
                if "label" not in rows.column_names:
                    raise ValueError(_no_column(self.name, split, rows, "label"))
                labels = _labels(rows)
                check_labels(labels, len(class_names), "the training images have", source.name)
            parts[split] = EncodedImages(source, labels)
        return StreamedData(self.name, parts["train"], parts["validation"], class_names)

    def _class_names(self, rows: Any) -> tuple[str, ...]:
        num_classes = self.num_classes
        if num_classes is None:
            names = getattr(rows.features["label"], "names", None)
            if names:
                return tuple(names)
            num_classes = int(_labels(rows).max()) + 1
        return tuple(map(str, range(num_classes)))

    def _rows(self, root: Path | None, split: str) -> tuple[Any, Sequence[tuple[str, int]]]:
        """A split's rows, and the names and numbers of rows of its files, none if they were downloaded.

        The datasets library turns the parquet files into memory-mapped Arrow files, once.
        """
        try:
            import datasets
        except ImportError as error:
            raise ImportError(f"{self.name} needs {error.name}: pip install 'infobatch[lab]'") from error

        if root is None:
            try:
                rows, shards = datasets.load_dataset(self.repository, split=split), []
            except Exception as error:
                remedy = "accept its terms there and run `hf auth login`"
                raise download_error(self.name, self.repository, error, remedy) from error
        else:
            paths = sorted(root.glob(f"{split}*.parquet")) or sorted(root.glob(f"data/{split}*.parquet"))
            if not paths:
                raise FileNotFoundError(
                    f"{root} holds neither train/ and val/ with a folder a class nor {split}*.parquet; "
                    "give --data-dir a folder with one of them"
                )
            shards = [(path.name, _num_rows(path)) for path in paths]
            rows = datasets.Dataset.from_parquet([str(path) for path in paths])
        if "image" not in rows.column_names:
            raise ValueError(_no_column(self.name, split, rows, "image"))
        return rows, shards


def _no_column(name: str, split: str, rows: Any, column: str) -> str:
    return f"{name}'s {split} files have columns {', '.join(rows.column_names)}, but no {column!r}"


def _num_rows(path: Path) -> int:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        return int(parquet.read_metadata(path).num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a readable parquet file ({error}); replace it") from error


def _labels(rows: Any) -> Tensor:
    return torch.from_numpy(np.asarray(rows.with_format("numpy")["label"][:], dtype=np.int64))


def _encoded(rows: Any) -> Any:
    """The rows with their images as they are in the files, not decoded."""
    import datasets

    if isinstance(rows.features["image"], datasets.Image):
        return rows.cast_column("image", datasets.Image(decode=False))
    return rows


def _read_folder(folder: Path, class_names: Sequence[str]) -> EncodedImages:
    """The images in a folder for each class; without class names, those in the folder itself."""
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names) if class_names else [(-1, "")]:
        if not (folder / name).is_dir():
            raise FileNotFoundError(
                f"{folder} has no folder {name}, a class of the training images; it must hold a folder "
                "for each class (sort the validation images into them)"
                if name
                else f"there is no folder {folder}, with images to validate on"
            )
        found = sorted(str(path) for path in (folder / name).iterdir() if path.is_file())
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no images; it must hold them, or one folder a class")
    _check_suffixes(paths)
    # One string, not a list of a million objects that every loader process would copy by touching.
    return EncodedImages(_Paths(np.array(paths, dtype=np.bytes_)), torch.tensor(labels))


def _check_suffixes(paths: Sequence[str]) -> None:
    """Raise ``ValueError`` for a file that is no image by its name."""
    from PIL import Image

    known = tuple(Image.registered_extensions())
    for path in paths:
        if not path.lower().endswith(known):
            raise ValueError(f"{path} is no image by its name; remove it, or name it by its format")


class _Paths:
    """Images by the paths of their files, as bytes."""

    def __init__(self, paths: np.ndarray) -> None:
        self._paths = paths

    def read(self, index: int) -> str:
        return str(self._paths[index].decode())

    name = read


class _Rows:
    """Images in rows of parquet files; ``shards`` are the files' names and numbers of rows."""

    def __init__(self, rows: Any, split: str, shards: Sequence[tuple[str, int]]) -> None:
        self._rows = rows
        self._split = split
        self._shards = shards

    def read(self, index: int) -> io.BytesIO:
        image = self._rows[index]["image"] or {}
        return io.BytesIO(image.get("bytes") or b"")

    def name(self, index: int) -> str:
        for shard, num_rows in self._shards:
            if index < num_rows:
                return f"row {index} (from 0) of {shard}"
            index -= num_rows
        return f"row {index} (from 0) of the {self._split} split"


FILE_SETS = by_name(
    FileSet("imagenet", "ILSVRC/imagenet-1k", 1000, "153 GB, after accepting its terms on the hub"),
    FileSet("images"),
)
