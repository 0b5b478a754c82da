"""Images with a class for each pixel: CamVid and ADE20K's scene parsing, kept encoded in memory.

A row that could not be trained on is found when the set is loaded: every annotation is decoded once.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.lab.data import parquet
from infobatch.lab.data.base import Data
from infobatch.lab.data.images import complaint
from infobatch.lab.data.segmentation_classes import ADE20K, CAMVID
from infobatch.scores.columns import IndexArray

IGNORED = 255
"""Stands for a pixel without a class."""
OUT_OF_RANGE = 254
LEAST_SIDE = 32
"""Of an image, in pixels: the networks shrink it by as much."""
MANY = 2000
"""Images that take more than a few seconds to look through."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Annotated:
    """Encoded images and annotations. ``rows`` int64 (n,): which of the columns' values.

    ``images`` and ``annotations``: Arrow columns of bytes. ``codes`` uint8 (256,): what an annotation's
    ids stand for. ``sizes`` int64 (n, 2): height and width. ``present`` bool (n, C): which classes an
    image has.
    """

    images: Any
    annotations: Any
    codes: np.ndarray
    rows: IndexArray
    sizes: IndexArray
    present: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray]:
        """An RGB image, as Pillow has it, and the class of each pixel, uint8 (height, width)."""
        row = int(self.rows[index])
        image = open_image(self.images[row].as_py()).convert("RGB")
        return image, classes_in(open_image(self.annotations[row].as_py()), self.codes)

    def part(self, indices: Tensor) -> Annotated:
        places = indices.numpy()
        return replace(
            self, rows=self.rows[places], sizes=self.sizes[places], present=self.present[indices]
        )


@dataclass(frozen=True)
class SegmentationData(Data):
    """``short_side``: what an image's shorter side is resized to, in pixels, before it is scaled and
    cropped, and for testing; None leaves it as it is.
    """

    train: Annotated
    test: Annotated
    short_side: int | None = None

    @property
    def class_members(self) -> tuple[Tensor, Tensor]:
        samples, classes = self.train.present.nonzero().unbind(1)
        return samples, classes

    def of_training(self, train: Tensor, test: Tensor | None = None) -> SegmentationData:
        tested = self.test if test is None else self.train.part(test)
        return replace(self, train=self.train.part(train), test=tested)


@dataclass(frozen=True)
class SegmentationSet:
    """Where a set lies, and what the ids of its annotations mean.

    ``repository``: on the hub; empty where it is only ever read from a folder. ``first``: the id of the
    first class; ``unlabelled``: that of a pixel without one. ``download``: what a download of it takes.
    """

    name: str
    repository: str
    folder: str
    test_split: str
    class_names: tuple[str, ...]
    first: int
    unlabelled: int
    short_side: int | None
    download: str

    def __call__(
        self, data_dir: Path | None, skip_bad: bool = False, say: Say = lambda text: None
    ) -> SegmentationData:
        """``skip_bad``: leave out rows that cannot be trained on, and ``say`` how many; else raise."""
        files = self._files(data_dir)
        train, test = (self._read(files[split], skip_bad, say) for split in ("train", self.test_split))
        return SegmentationData(self.name, train, test, self.class_names, self.short_side)

    def _files(self, data_dir: Path | None) -> dict[str, list[Path]]:
        splits = ("train", self.test_split)
        if data_dir is not None:
            folders = [data_dir / self.name, data_dir / self.name / self.folder, data_dir]
            remedy = "give --data-dir the folder that has them"
            if self.repository:
                remedy = f"download them from huggingface.co/datasets/{self.repository}"
            return parquet.find(self.name, folders, splits, remedy)
        if not self.repository:
            raise FileNotFoundError(
                f"{self.name} is not downloaded; give --data-dir a folder with "
                f"{self.name}/train*.parquet and {self.test_split}*.parquet"
            )
        folder = parquet.download(self.name, self.repository, self.folder)
        return parquet.find(self.name, [folder], splits, "give --data-dir a folder with them")

    def _codes(self) -> np.ndarray:
        codes = np.full(256, OUT_OF_RANGE, np.uint8)
        codes[self.first : self.first + len(self.class_names)] = np.arange(len(self.class_names))
        codes[self.unlabelled] = IGNORED
        return codes

    def _read(self, paths: list[Path], skip_bad: bool, say: Say) -> Annotated:
        import pyarrow
        import pyarrow.compute as compute

        tables = [parquet.read(self.name, path, ("image", "annotation")) for path in paths]
        images, annotations = (
            pyarrow.chunked_array(
                [chunk for t in tables for chunk in compute.struct_field(t[column], "bytes").chunks]
            )
            for column in ("image", "annotation")
        )
        places = [
            (path, row) for path, t in zip(paths, tables, strict=True) for row in range(t.num_rows)
        ]
        if len(places) > MANY:
            say(f"looking through {len(places):,} images of {self.name} and their annotations")
        codes, num_classes = self._codes(), len(self.class_names)

        def look(row: int) -> Look | str:
            try:
                return look_at(images[row].as_py(), annotations[row].as_py(), codes, num_classes)
            except ValueError as error:
                path, place = places[row]
                return f"row {place} (from 0) of {path}: {error}"

        with ThreadPoolExecutor() as pool:
            looks = list(pool.map(look, range(len(places))))
        bad = [found for found in looks if isinstance(found, str)]
        self._tell(bad, len(places), skip_bad, say)
        good = [(row, found) for row, found in enumerate(looks) if not isinstance(found, str)]
        return Annotated(
            images,
            annotations,
            codes,
            rows=np.array([row for row, _ in good], dtype=np.int64),
            sizes=np.array([found.size for _, found in good], dtype=np.int64),
            present=torch.from_numpy(np.stack([found.present for _, found in good])),
        )

    def _tell(self, bad: Sequence[str], num_rows: int, skip_bad: bool, say: Say) -> None:
        """Raise ``ValueError`` for the first of the ``bad`` rows, unless others can be trained on."""
        if bad and not skip_bad:
            also = f" ({len(bad):,} of {num_rows:,} rows are bad)" if len(bad) > 1 else ""
            raise ValueError(
                f"{bad[0]}; repair it, or give --segmentation.skip-bad to leave such rows out{also}"
            )
        if len(bad) == num_rows:
            raise ValueError(f"all {num_rows:,} rows are bad, the first one {bad[0]}; repair them")
        if bad:
            say(f"{len(bad):,} of {num_rows:,} images of {self.name} are left out; {bad[0]}")


@dataclass(frozen=True)
class Look:
    """At an image: height and width, and which classes it has, bool (C,)."""

    size: tuple[int, int]
    present: np.ndarray


def look_at(image: bytes | None, annotation: bytes | None, codes: np.ndarray, num_classes: int) -> Look:
    """Decode both once. ``ValueError`` says what is wrong with them, if anything is."""
    if image is None or annotation is None:
        raise ValueError(f"the {'image' if image is None else 'annotation'} is missing")
    try:
        picture = open_image(image)
        width, height = picture.size
        picture.draft("RGB", (LEAST_SIDE, LEAST_SIDE))  # a JPEG is read whole, at a fraction of its size
        picture.load()
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the image cannot be read ({complaint(error)})") from error
    if min(width, height) < LEAST_SIDE:
        raise ValueError(f"the image has {width}x{height} pixels, and needs {LEAST_SIDE} on each side")
    try:
        classes = classes_in(open_image(annotation), codes)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the annotation cannot be read ({complaint(error)})") from error
    if classes.shape != (height, width):
        raise ValueError(
            f"the image has {width}x{height} pixels, and its annotation "
            f"{classes.shape[1]}x{classes.shape[0]}"
        )
    return Look((height, width), np.bincount(classes.ravel(), minlength=256)[:num_classes] > 0)


def open_image(encoded: bytes) -> Any:
    """As Pillow opens it: decoded when its pixels are asked for."""
    from PIL import Image

    return Image.open(io.BytesIO(encoded))


def classes_in(annotation: Any, codes: np.ndarray) -> np.ndarray:
    """The class of each pixel, uint8 (height, width), of an annotation as Pillow has it."""
    ids = np.asarray(annotation)
    if ids.ndim != 2 or ids.dtype.kind not in "bui":
        raise ValueError(f"the annotation has mode {annotation.mode}; it must hold one class id a pixel")
    wrong = (ids < 0) | (ids > 255)
    if not wrong.any():
        classes: np.ndarray = codes[ids.astype(np.uint8)]
        wrong = classes == OUT_OF_RANGE
        if not wrong.any():
            return classes
    allowed = np.flatnonzero(codes != OUT_OF_RANGE)
    raise ValueError(
        f"class id {ids[wrong][0]} in the annotation is out of range; it has ids {allowed[0]}.."
        f"{allowed[-1]}, of which {np.flatnonzero(codes == IGNORED)[0]} is without a class"
    )


SEGMENTATION_SETS = {
    each.name: each
    for each in (
        SegmentationSet("camvid", "", "", "test", CAMVID, 0, 11, None, ""),
        SegmentationSet(
            *("ade20k", "merve/scene_parse_150", "data", "validation", ADE20K),
            first=1,
            unlabelled=0,
            short_side=512,
            download="1 GB",
        ),
    )
}
