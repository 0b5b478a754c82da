"""Image sets too large for memory: folders of images, or parquet files of the hub's layout."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infobatch.lab.data.base import by_name
from infobatch.lab.data.encoded import check_encoded
from infobatch.lab.data.folders import (
    HELD_OUT,
    TEST_NAMES,
    choose_test,
    class_folders,
    entries,
    found_in,
    read_folder,
)
from infobatch.lab.data.labels import are_names, number_labels, read_labels
from infobatch.lab.data.locations import download_error
from infobatch.lab.data.streamed import EncodedImages, StreamedData

FEW_CLASSES = 1000
"""So many classes may be more than there are images; more of them are ids, perhaps."""


@dataclass(frozen=True)
class FileSet:
    """A set in folders ``train`` and, say, ``val``, or in parquet files whose names begin so.

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

    def __call__(self, data_dir: Path | None, test: str = "") -> StreamedData:
        """Read the set; see :class:`infobatch.lab.data.base.DataSource`.

        Args:
            data_dir: The folder that holds it, or that holds a folder of its name.
            test: The name of the split to evaluate on; by default the first of ``TEST_NAMES``.
        """
        if data_dir is None and self.repository is None:
            raise FileNotFoundError(
                f"--data {self.name} is for files of your own; give --data-dir, a folder with train/ "
                "and val/, or with train*.parquet and validation*.parquet"
            )
        root = data_dir
        if data_dir and (data_dir / self.name).is_dir() and not (data_dir / "train").is_dir():
            root = data_dir / self.name
        if root and (root / "train").is_dir():
            return self._read_folders(root, test)
        return self._read_parquet(root, test)

    def _read_folders(self, root: Path, test: str) -> StreamedData:
        class_names = class_folders(root / "train")
        if not class_names and self.repository is not None:
            raise FileNotFoundError(f"{root / 'train'} holds no folders; it must hold one a class")
        test = choose_test(root, test)
        train, tested = (read_folder(root / split, class_names) for split in ("train", test))
        return StreamedData(self.name, train, tested, class_names, test)

    def _read_parquet(self, root: Path | None, test: str) -> StreamedData:
        test = self._find_test(root, test) if root else test or "validation"
        splits = {split: self._rows(root, split) for split in ("train", test)}
        rows, _ = splits["train"]
        labelled = "label" in rows.column_names
        if not labelled and self.repository is not None:
            raise ValueError(_no_column(self.name, "train", rows, "label"))
        class_names: tuple[str, ...] = ()
        by_name = False
        parts = {}
        for split, (rows, shards) in splits.items():
            labels = torch.full((len(rows),), -1)
            source = _Rows(_encoded(rows, self.name, split), split, shards)
            if labelled:
                if "label" not in rows.column_names:
                    raise ValueError(_no_column(self.name, split, rows, "label"))
                found = read_labels(rows.with_format("arrow")["label"][:], source.name)
                by_name = by_name or are_names(found)
                class_names = class_names or self._class_names(rows, found, source)
                labels = number_labels(found, class_names, by_name, source.name)
            parts[split] = EncodedImages(source, labels)
        return StreamedData(self.name, parts["train"], parts[test], class_names, test)

    @staticmethod
    def _find_test(root: Path, test: str) -> str:
        """The name that the files to evaluate on begin with."""
        if not _shards(root, "train"):
            deeper = (
                [path.name for path in entries(root) if (path / "train").is_dir()]
                if root.is_dir()
                else []
            )
            remedy = (
                f"give --data-dir {root / deeper[0]}" if deeper else "give --data-dir a folder with them"
            )
            raise FileNotFoundError(
                f"{root} holds neither train/ with a folder a class nor train*.parquet; it holds "
                f"{found_in(root)}: {remedy}"
            )
        there = [name for name in ([test] if test else TEST_NAMES) if _shards(root, name)]
        if not there:
            wanted = test or " or ".join(TEST_NAMES)
            raise FileNotFoundError(
                f"{root} holds train*.parquet, and no parquet files to evaluate on, whose names begin "
                f"with {wanted}; it holds {found_in(root)}: give --test what their names begin "
                f"with{HELD_OUT}"
            )
        return there[0]

    def _class_names(self, rows: Any, labels: np.ndarray, source: _Rows) -> tuple[str, ...]:
        """The classes of the training images, by what their file and their labels say."""
        if are_names(labels):
            return tuple(sorted(set(labels)))
        num_classes = self.num_classes
        if num_classes is None:
            names = getattr(rows.features["label"], "names", None)
            if names:
                return tuple(names)
            row, num_classes = int(labels.argmax()), int(labels.max()) + 1
            if num_classes > max(len(labels), FEW_CLASSES):
                raise ValueError(
                    f"{source.name(row)} has the label {labels[row]}, by which there would be "
                    f"{num_classes:,} classes of {len(labels):,} images; number the classes from 0 "
                    "on, or write their names"
                )
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
            paths = _shards(root, split)
            shards = [(path.name, _num_rows(path)) for path in paths]
            rows = datasets.Dataset.from_parquet([str(path) for path in paths])
        if "image" not in rows.column_names:
            raise ValueError(_no_column(self.name, split, rows, "image"))
        return rows, shards


def _shards(root: Path, split: str) -> list[Path]:
    """The parquet files of a split: ``val-0.parquet`` is one of ``val``, and ``valid.parquet`` not."""
    for folder in (root, root / "data"):
        paths = [path for path in sorted(folder.glob("*.parquet")) if path.name.startswith(split)]
        if found := [path for path in paths if not path.name[len(split)].isalpha()]:
            return found
    return []


def _no_column(name: str, split: str, rows: Any, column: str) -> str:
    return f"{name}'s {split} files have columns {', '.join(rows.column_names)}, but no {column!r}"


def _num_rows(path: Path) -> int:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        return int(parquet.read_metadata(path).num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a readable parquet file ({error}); replace it") from error


def _encoded(rows: Any, name: str, split: str) -> Any:
    """The rows with their images as they are in the files, not decoded."""
    import datasets

    check_encoded(rows.features.arrow_schema.field("image").type, f"{name}'s {split} files have images")
    if isinstance(rows.features["image"], datasets.Image):
        return rows.cast_column("image", datasets.Image(decode=False))
    return rows


class _Rows:
    """Images in rows of parquet files; ``shards`` are the files' names and numbers of rows."""

    def __init__(self, rows: Any, split: str, shards: Sequence[tuple[str, int]]) -> None:
        self._rows = rows
        self._split = split
        self._shards = shards

    def read(self, index: int) -> io.BytesIO:
        image = self._rows[index]["image"]
        return io.BytesIO((image["bytes"] if isinstance(image, dict) else image) or b"")

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
