"""ImageNet-1K: images decoded and augmented as they are read, by the loader's processes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from infobatch.lab.data.augment import AUGMENTATION_STREAM
from infobatch.lab.data.base import Data

REPOSITORY = "ILSVRC/imagenet-1k"
DOWNLOAD = "153 GB, after accepting its terms on the hub"
NUM_CLASSES = 1000
CROP = 224
RESIZED = 256
"""The shorter side of a test image, in pixels, before its centre is taken."""
MEAN = torch.tensor([123.675, 116.28, 103.53])
STD = torch.tensor([58.395, 57.12, 57.375])
"""The customary statistics of ImageNet's pixels, 0 to 255."""
SCALES = (0.08, 1.0)
"""A training crop's share of its image's area."""
RATIOS = (3 / 4, 4 / 3)
"""Its width divided by its height."""

Read = Callable[[int], Any]


@dataclass(frozen=True)
class EncodedImages:
    """Encoded images on disk: ``read(i)`` gives what Pillow opens; ``labels`` int64 (N,)."""

    read: Read
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, indices: Tensor) -> EncodedImages:
        return EncodedImages(_Part(self.read, indices.numpy()), self.labels[indices])


@dataclass(frozen=True)
class StreamedData(Data):
    """A data set too large for memory."""

    train: EncodedImages
    test: EncodedImages

    @property
    def num_channels(self) -> int:
        return 3

    @property
    def train_labels(self) -> Tensor:
        return self.train.labels

    def of_training(self, train: Tensor, test: Tensor | None = None) -> StreamedData:
        tested = self.test if test is None else self.train.part(test)
        return replace(self, train=self.train.part(train), test=tested)


class TrainImages(Dataset[tuple[Tensor, int]]):
    """Random resized crops and flips (Szegedy et al., 2015), decided by (seed, epoch, index) alone.

    A sample is (uint8 (3, 224, 224), label). ``begin`` reaches loader processes that are already
    running, for they share the epoch's number with this one.
    """

    def __init__(self, images: EncodedImages, seed: int) -> None:
        self._images = images
        self._seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    def begin(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        rng = np.random.default_rng([self._seed, AUGMENTATION_STREAM, int(self._epoch), index])
        image = _open(self._images, index)
        width, height = image.size
        box = random_box(width, height, rng)
        return _pixels(image, box, flip=bool(rng.random() < 0.5)), int(self._images.labels[index])


class TestImages(Dataset[tuple[Tensor, int]]):
    """The centre of each image, whose shorter side becomes 256 pixels."""

    def __init__(self, images: EncodedImages) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = _open(self._images, index)
        width, height = image.size
        side = min(width, height) * CROP / RESIZED
        left, top = (width - side) / 2, (height - side) / 2
        return _pixels(image, (left, top, left + side, top + side)), int(self._images.labels[index])


def random_box(width: float, height: float, rng: np.random.Generator) -> tuple[float, ...]:
    """A box (left, top, right, bottom) of random area and shape within the image."""
    for _ in range(10):
        area = width * height * rng.uniform(*SCALES)
        ratio = math.exp(rng.uniform(math.log(RATIOS[0]), math.log(RATIOS[1])))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return left, top, left + w, top + h
    w, h = min(width, height * RATIOS[1]), min(height, width / RATIOS[0])  # the largest that fits
    left, top = (width - w) / 2, (height - h) / 2
    return left, top, left + w, top + h


def _open(images: EncodedImages, index: int) -> Any:
    from PIL import Image

    try:
        image = Image.open(images.read(index))
        image.draft("RGB", (2 * CROP, 2 * CROP))  # a JPEG may be decoded at a fraction of its size
        return image.convert("RGB")
    except OSError as error:
        raise ValueError(f"image {index} cannot be read ({error}); replace its file") from error


def _pixels(image: Any, box: Sequence[float], flip: bool = False) -> Tensor:
    from PIL.Image import Resampling

    small = image.resize((CROP, CROP), Resampling.BILINEAR, box=box)
    pixels = np.asarray(small)[:, ::-1] if flip else np.asarray(small)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def load_imagenet(data_dir: Path | None) -> StreamedData:
    """From ``imagenet/train`` and ``val`` with a folder a class, or from the hub's parquet files."""
    root = data_dir / "imagenet" if data_dir and (data_dir / "imagenet").is_dir() else data_dir
    if root and (root / "train").is_dir():
        class_names = tuple(sorted(path.name for path in (root / "train").iterdir() if path.is_dir()))
        train, test = (_read_folders(root / split, class_names) for split in ("train", "val"))
        return StreamedData("imagenet", train, test, class_names)
    train, test = (_read_parquet(root, split) for split in ("train", "validation"))
    return StreamedData("imagenet", train, test, tuple(map(str, range(NUM_CLASSES))))


def _read_folders(folder: Path, class_names: Sequence[str]) -> EncodedImages:
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        if not (folder / name).is_dir():
            raise FileNotFoundError(
                f"{folder} has no folder {name}, a class of the training images; it must hold a folder "
                "for each class (sort the validation images into them)"
            )
        found = sorted(str(path) for path in (folder / name).iterdir() if path.is_file())
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no images; it must hold one folder of images a class")
    # One string, not a list of a million objects that every loader process would copy by touching.
    joined = np.array(paths, dtype=np.bytes_)
    return EncodedImages(_PathReader(joined), torch.tensor(labels))


def _read_parquet(root: Path | None, split: str) -> EncodedImages:
    """The hub's shards, turned into memory-mapped Arrow files by the datasets library, once."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(f"imagenet needs {error.name}: pip install 'infobatch[lab]'") from error

    if root is None:
        try:
            rows = datasets.load_dataset(REPOSITORY, split=split)
        except Exception as error:
            raise ConnectionError(
                f"imagenet could not be downloaded from huggingface.co/datasets/{REPOSITORY} "
                f"({type(error).__name__}); accept its terms there and run `hf auth login`, or give "
                "--data-dir with its folders or parquet files"
            ) from error
    else:
        shards = sorted(root.glob(f"{split}*.parquet")) or sorted(root.glob(f"data/{split}*.parquet"))
        if not shards:
            raise FileNotFoundError(
                f"{root} holds neither train/ and val/ with a folder a class nor {split}*.parquet; give "
                "--data-dir a folder with one of them"
            )
        rows = datasets.Dataset.from_parquet([str(path) for path in shards])
    missing = {"image", "label"} - set(rows.column_names)
    if missing:
        raise ValueError(
            f"imagenet's {split} files have columns {', '.join(rows.column_names)}, but no "
            f"{missing.pop()!r}"
        )
    labels = torch.from_numpy(np.asarray(rows.with_format("numpy")["label"][:], dtype=np.int64))
    if isinstance(rows.features["image"], datasets.Image):
        rows = rows.cast_column("image", datasets.Image(decode=False))
    return EncodedImages(_RowReader(rows), labels)


class _Part:
    def __init__(self, read: Read, indices: np.ndarray) -> None:
        self._read = read
        self._indices = indices

    def __call__(self, index: int) -> Any:
        return self._read(int(self._indices[index]))


class _PathReader:
    def __init__(self, paths: np.ndarray) -> None:
        self._paths = paths

    def __call__(self, index: int) -> str:
        return str(self._paths[index].decode())


class _RowReader:
    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __call__(self, index: int) -> io.BytesIO:
        return io.BytesIO(self._rows[index]["image"]["bytes"])
