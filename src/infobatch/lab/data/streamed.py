"""Images on disk, decoded and augmented by the loader's processes while they are trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
"""The shorter side of a test image, in pixels, before its center is taken."""
MEAN = torch.tensor([123.675, 116.28, 103.53])
STD = torch.tensor([58.395, 57.12, 57.375])
"""The customary statistics of ImageNet's pixels, 0 to 255."""
SMALLEST_CROP = 0.08
"""The least share of its image's area that a training crop takes."""
RATIOS = (3 / 4, 4 / 3)
"""The least and largest width of a training crop, relative to its height."""


class ImageSource(Protocol):
    """Encoded images on disk, by their index."""

    def read(self, index: int) -> Any:
        """A path or a file object, which Pillow opens."""
        ...

    def name(self, index: int) -> str:
        """Where the image lies, for an error to name."""
        ...


@dataclass(frozen=True)
class EncodedImages:
    """Encoded images and their classes.

    Args:
        source: Where the images are read from.
        labels: int64 (N,); -1 where there are none.
    """

    source: ImageSource
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> EncodedImages:
        return EncodedImages(_SourceSubset(self.source, indices.numpy()), self.labels[indices])


@dataclass(frozen=True)
class StreamedData(Data):
    """A set of images that is too large for memory; they are seen as crops of 224 pixels."""

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


class TrainImages(Augmented):
    """Random resized crops, uint8 (3, 224, 224), half of them mirrored, and labels.

    Source: Szegedy et al., 2015.
    """

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
    """The central 224x224 pixels of each image, whose shorter side is resized to 256, and labels."""

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
    """A box of random shape and area within an image.

    Args:
        width: The image's width, in pixels.
        height: The image's height, in pixels.
        rng: Where the random numbers come from.
        smallest: The least share of the image's area that the box takes, in (0, 1].

    Returns:
        The box's left, top, right and bottom, in pixels.
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


class _SourceSubset:
    """Some images of a source."""

    def __init__(self, source: ImageSource, indices: np.ndarray) -> None:
        self._source = source
        self._indices = indices

    def read(self, index: int) -> Any:
        return self._source.read(int(self._indices[index]))

    def name(self, index: int) -> str:
        return self._source.name(int(self._indices[index]))
