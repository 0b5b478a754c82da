"""Images on disk, decoded and augmented as they are read, by the loader's processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from infobatch.lab.data.augment import Augmented
from infobatch.lab.data.base import Data
from infobatch.lab.data.images import unreadable

CROP = 224
RESIZED = 256
"""The shorter side of a test image, in pixels, before its centre is taken."""
MEAN = torch.tensor([123.675, 116.28, 103.53])
STD = torch.tensor([58.395, 57.12, 57.375])
"""The customary statistics of ImageNet's pixels, 0 to 255."""
SMALLEST_CROP = 0.08
"""A training crop's least share of its image's area."""
RATIOS = (3 / 4, 4 / 3)
"""Its width divided by its height."""


class Source(Protocol):
    """Encoded images on disk, by their index."""

    def read(self, index: int) -> Any:
        """What Pillow opens."""
        ...

    def name(self, index: int) -> str:
        """Where it lies, for an error to name."""
        ...


@dataclass(frozen=True)
class EncodedImages:
    """``labels`` int64 (N,): -1 where there are none."""

    source: Source
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, indices: Tensor) -> EncodedImages:
        return EncodedImages(_Part(self.source, indices.numpy()), self.labels[indices])


@dataclass(frozen=True)
class StreamedData(Data):
    """A data set too large for memory."""

    train: EncodedImages
    test: EncodedImages

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, CROP, CROP

    @property
    def num_channels(self) -> int:
        return 3

    @property
    def train_labels(self) -> Tensor | None:
        return self.train.labels if self.class_names else None

    def of_training(self, train: Tensor, test: Tensor | None = None) -> StreamedData:
        tested = self.test if test is None else self.train.part(test)
        return replace(self, train=self.train.part(train), test=tested)


class TrainImages(Augmented):
    """Random resized crops and flips (Szegedy et al., 2015): (uint8 (3, 224, 224), label)."""

    def __init__(self, images: EncodedImages, seed: int, smallest_crop: float = SMALLEST_CROP) -> None:
        super().__init__(seed)
        self._images = images
        self._smallest_crop = smallest_crop

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        rng = self._rng(index)
        image = _open(self._images, index)
        width, height = image.size
        box = random_box(width, height, rng, self._smallest_crop)
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


def random_box(
    width: float, height: float, rng: np.random.Generator, smallest: float = SMALLEST_CROP
) -> tuple[float, ...]:
    """A box (left, top, right, bottom) of random shape and area within the image.

    ``smallest``: the least share of its area.
    """
    for _ in range(10):
        area = width * height * rng.uniform(smallest, 1.0)
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
        image = Image.open(images.source.read(index))
        image.draft("RGB", (2 * CROP, 2 * CROP))  # a JPEG may be decoded at a fraction of its size
        return image.convert("RGB")
    except Exception as error:  # Pillow's are of many types
        raise unreadable(images.source.name(index), error) from error


def _pixels(image: Any, box: Sequence[float], flip: bool = False) -> Tensor:
    from PIL.Image import Resampling

    small = image.resize((CROP, CROP), Resampling.BILINEAR, box=box)
    pixels = np.asarray(small)[:, ::-1] if flip else np.asarray(small)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


class _Part:
    def __init__(self, source: Source, indices: np.ndarray) -> None:
        self._source = source
        self._indices = indices

    def read(self, index: int) -> Any:
        return self._source.read(int(self._indices[index]))

    def name(self, index: int) -> str:
        return self._source.name(int(self._indices[index]))
