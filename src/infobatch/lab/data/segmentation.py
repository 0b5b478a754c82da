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

from infobatch.lab.data.base import Data, by_name
from infobatch.lab.data.encoded import encoded_of
from infobatch.lab.data.images import in_rgb, pillow_reason
from infobatch.lab.data.locations import find_splits
from infobatch.lab.data.segmentation_classes import ADE20K, CAMVID
from infobatch.lab.data.table_files import read_table
from infobatch.scores.columns import IndexArray

IGNORED = 255
"""The class of a pixel without one, which losses and metrics leave out."""
OUT_OF_RANGE = 254
"""The code of ids that no annotation of the set may have."""
LEAST_SIDE = 32
"""The least height and width of an image, in pixels: the networks shrink images by as much."""
MANY_IMAGES = 2000
"""From this many on, inspecting them takes more than a few seconds."""

Say = Callable[[str], None]
"""Shows a sentence to the user."""


@dataclass(frozen=True)
class Annotated:
    """Encoded images and their annotations.

    Args:
        images: An Arrow column of bytes.
        annotations: An Arrow column of bytes.
        codes: The class, IGNORED or OUT_OF_RANGE that each id of an annotation stands for, uint8 (256,).
        rows: Which rows of the columns the samples are, int64 (n,).
        sizes: Height and width of each image, in pixels, int64 (n, 2).
        present: Which classes each image has, bool (n, C).
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
        image = in_rgb(open_image(self.images[row].as_py()))
        return image, classes_in(open_image(self.annotations[row].as_py()), self.codes)

    def subset(self, indices: Tensor) -> Annotated:
        places = indices.numpy()
        return replace(
            self, rows=self.rows[places], sizes=self.sizes[places], present=self.present[indices]
        )


@dataclass(frozen=True)
class SegmentationData(Data):
    """Images with a class for each pixel.

    Args:
        train: The training images and annotations.
        test: The test images and annotations.
        short_side: The pixels that an image's shorter side is resized to, for testing and, in training,
            before it is scaled and cropped; None leaves it as it is.
    """

    train: Annotated
    test: Annotated
    short_side: int | None = None

    @property
    def class_members(self) -> tuple[Tensor, Tensor]:
        indices, classes = self.train.present.nonzero().unbind(1)
        return indices, classes


@dataclass(frozen=True)
class SegmentationSet:
    """Where a set lies, and what the ids of its annotations mean.

    Args:
        name: The name that the set is loaded by.
        class_names: The names of the classes, in the order of their ids.
        test_split: What the names of the test files begin with.
        first: The id of the first class.
        unlabelled: The id of a pixel without a class.
        short_side: See :class:`SegmentationData`.
        repository: Its repository on the hub; empty for a set that is only ever local.
        folder: The folder of its files there.
        download: The size of its download, in words.
    """

    name: str
    class_names: tuple[str, ...]
    test_split: str
    first: int
    unlabelled: int
    short_side: int | None = None
    repository: str = ""
    folder: str = ""
    download: str = ""

    def __call__(
        self, data_dir: Path | None, skip_bad: bool = False, say: Say = lambda text: None
    ) -> SegmentationData:
        """Read the set and inspect each image and annotation.

        Args:
            data_dir: The folder that has its files; None to download them.
            skip_bad: Whether rows that cannot be trained on are left out, in place of an error.
            say: Shows the user how many rows are inspected and left out.

        Returns:
            The set, its images and annotations encoded in memory.

        Raises:
            ValueError: For a row that cannot be trained on, unless such rows are left out.
        """
        splits = ("train", self.test_split)
        files = find_splits(self.name, self.repository, self.folder, splits, data_dir)
        train, test = (self._read(files[split], skip_bad, say) for split in splits)
        return SegmentationData(self.name, train, test, self.class_names, self.short_side)

    def _codes(self) -> np.ndarray:
        """What the ids of an annotation stand for, uint8 (256,)."""
        codes = np.full(256, OUT_OF_RANGE, np.uint8)
        codes[self.first : self.first + len(self.class_names)] = np.arange(len(self.class_names))
        codes[self.unlabelled] = IGNORED
        return codes

    def _read(self, paths: list[Path], skip_bad: bool, say: Say) -> Annotated:
        import pyarrow

        tables = [read_table(path, ("image", "annotation")) for path in paths]
        images, annotations = (
            pyarrow.chunked_array(
                [
                    chunk
                    for path, t in zip(paths, tables, strict=True)
                    for chunk in encoded_of(t[column], f"{path} has in {column!r} values").chunks
                ]
            )
            for column in ("image", "annotation")
        )
        places = [
            (path, row) for path, t in zip(paths, tables, strict=True) for row in range(t.num_rows)
        ]
        if len(places) > MANY_IMAGES:
            say(f"checking {len(places):,} images of {self.name} and their annotations")
        codes, num_classes = self._codes(), len(self.class_names)

        def inspect(row: int) -> Inspection | str:
            try:
                return inspect_row(images[row].as_py(), annotations[row].as_py(), codes, num_classes)
            except ValueError as error:
                path, place = places[row]
                return f"row {place} (from 0) of {path}: {error}"

        with ThreadPoolExecutor() as pool:
            inspections = list(pool.map(inspect, range(len(places))))
        bad = [found for found in inspections if isinstance(found, str)]
        self._report_bad(bad, len(places), skip_bad, say)
        good = [(row, found) for row, found in enumerate(inspections) if not isinstance(found, str)]
        return Annotated(
            images,
            annotations,
            codes,
            rows=np.array([row for row, _ in good], dtype=np.int64),
            sizes=np.array([found.size for _, found in good], dtype=np.int64),
            present=torch.from_numpy(np.stack([found.present for _, found in good])),
        )

    def _report_bad(self, bad: Sequence[str], num_rows: int, skip_bad: bool, say: Say) -> None:
        """Raise ``ValueError`` for the first bad row, or say how many are left out."""
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
class Inspection:
    """Height and width of an image, and which classes it has, bool (C,)."""

    size: tuple[int, int]
    present: np.ndarray


def inspect_row(
    image: bytes | None, annotation: bytes | None, codes: np.ndarray, num_classes: int
) -> Inspection:
    """Decode an image and its annotation once; ``ValueError`` says what is wrong with them."""
    if image is None or annotation is None:
        raise ValueError(f"the {'image' if image is None else 'annotation'} is missing")
    try:
        picture = open_image(image)
        width, height = picture.size
        picture.draft("RGB", (LEAST_SIDE, LEAST_SIDE))  # a JPEG is read whole, at a fraction of its size
        in_rgb(picture)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the image cannot be read ({pillow_reason(error)})") from error
    if min(width, height) < LEAST_SIDE:
        raise ValueError(f"the image has {width}x{height} pixels, and needs {LEAST_SIDE} on each side")
    try:
        classes = classes_in(open_image(annotation), codes)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the annotation cannot be read ({pillow_reason(error)})") from error
    if classes.shape != (height, width):
        raise ValueError(
            f"the image has {width}x{height} pixels, and its annotation "
            f"{classes.shape[1]}x{classes.shape[0]}"
        )
    return Inspection((height, width), np.bincount(classes.ravel(), minlength=256)[:num_classes] > 0)


def open_image(encoded: bytes) -> Any:
    """The image as Pillow opens it: decoded when its pixels are asked for."""
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


SEGMENTATION_SETS = by_name(
    SegmentationSet("camvid", CAMVID, "test", first=0, unlabelled=11),
    SegmentationSet(
        "ade20k",
        ADE20K,
        "validation",
        first=1,
        unlabelled=0,
        short_side=512,
        repository="merve/scene_parse_150",
        folder="data",
        download="1 GB",
    ),
)
