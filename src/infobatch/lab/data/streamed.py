"""Images on disk, decoded and augmented by the loader's processes while they are trained on."""

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
from infobatch.lab.data.images import Normalize, in_rgb, unreadable
from infobatch.lab.data.transforms import Transform, Transforms, drawing_from, load_transforms
from infobatch.lab.functions import reason_of

SIZE = 224
"""The side of the square that the network sees, in pixels, where nothing is said."""
CENTER = 224 / 256
"""The side of the center that is seen of a test image, relative to the image's shorter side."""
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
    """A set of images that is too large for memory.

    Args:
        train: The training images.
        test: The images to evaluate on.
        tested_on: What those are called.
        size: The side of the square that the network sees, in pixels.
        transforms: What is done with images in place of crops and flips; None for these.
    """

    train: EncodedImages
    test: EncodedImages
    tested_on: str = "test"
    size: int = SIZE
    transforms: Transforms | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size) if self.transforms is None else self.transforms.shape

    @property
    def train_labels(self) -> Tensor | None:
        return self.train.labels if self.class_names else None

    @property
    def normalize(self) -> Normalize:
        """What makes of pixels what a network takes; a user's transforms have done that."""
        if self.transforms is None:
            return Normalize(MEAN, STD)
        return Normalize(torch.zeros(self.shape[0]), torch.ones(self.shape[0]))

    @property
    def notes(self) -> tuple[str, ...]:
        classes = f" of {self.num_classes:,} classes" if self.class_names else ""
        return (
            f"{self.name}: {len(self.train):,} images{classes} to train on, and {len(self.test):,} of "
            f"{self.tested_on} to evaluate on",
        )

    def subset(self, train: Tensor, test: Tensor | None = None) -> StreamedData:
        part = replace(self, train=self.train.subset(train), origin=self.origin_of(train))
        if test is None:
            return part
        return replace(part, test=self.train.subset(test), tested_on="train")

    def seen(self, size: int, transform: str) -> StreamedData:
        """The set as a network is to see it.

        Args:
            size: The side of the square, in pixels; 0 for 224.
            transform: The function that makes what is done with each image; empty for the lab's own.

        Raises:
            ValueError: If that function cannot be used; see :func:`load_transforms`.
        """
        sized = replace(self, size=size or SIZE)
        if not transform:
            return sized
        first = (_open(self.train, 0), _open(self.test, 0))
        return replace(sized, transforms=load_transforms(transform, sized.size, first))


class TrainImages(Augmented):
    """Random resized crops, uint8 (3, size, size), half of them mirrored, and labels.

    A user's transforms give float32 (C, H, W) in their place.

    Source: Szegedy et al., 2015.
    """

    def __init__(self, data: StreamedData, seed: int, smallest_crop: float = SMALLEST_CROP) -> None:
        super().__init__(seed)
        self._data = data
        self._smallest_crop = smallest_crop

    def __len__(self) -> int:
        return len(self._data.train)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, transforms, rng = self._data.train, self._data.transforms, self._rng(index)
        label = int(images.labels[index])
        if transforms is not None:
            return _transformed(images, index, transforms.train, rng), label
        image = _open(images, index, self._data.size)
        width, height = image.size
        box = random_box(width, height, rng, self._smallest_crop)
        return _pixels(image, self._data.size, box, flip=bool(rng.random() < 0.5)), label


class PlainImages(Dataset[tuple[Tensor, int]]):
    """The center of each image, resized to uint8 (3, size, size), and labels.

    A user's transforms give float32 (C, H, W) in their place.

    Args:
        images: The images.
        data: The set that they are of.
    """

    def __init__(self, images: EncodedImages, data: StreamedData) -> None:
        self._images = images
        self._size, self._transforms = data.size, data.transforms

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = int(self._images.labels[index])
        if self._transforms is not None:
            rng = np.random.default_rng(index)
            return _transformed(self._images, index, self._transforms.test, rng), label
        image = _open(self._images, index, self._size)
        width, height = image.size
        side = min(width, height) * CENTER
        left, top = (width - side) / 2, (height - side) / 2
        return _pixels(image, self._size, (left, top, left + side, top + side)), label


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


def _open(images: EncodedImages, index: int, size: int | None = None) -> Any:
    """An image in RGB; where ``size`` is given, a JPEG may be decoded at a fraction of its size."""
    from PIL import Image

    try:
        image = Image.open(images.source.read(index))
        if size is not None:
            image.draft("RGB", (2 * size, 2 * size))
        return in_rgb(image)
    except Exception as error:  # Pillow's are of many types
        raise unreadable(images.source.name(index), error) from error


def _pixels(image: Any, size: int, box: Sequence[float], flip: bool = False) -> Tensor:
    from PIL.Image import Resampling

    small = image.resize((size, size), Resampling.BILINEAR, box=box)
    pixels = np.asarray(small)[:, ::-1] if flip else np.asarray(small)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _transformed(
    images: EncodedImages, index: int, transform: Transform, rng: np.random.Generator
) -> Tensor:
    """What a user's transform makes of an image, by random numbers of that generator."""
    image = _open(images, index)
    try:
        with drawing_from(rng):
            seen: Tensor = transform(image)
    except Exception as error:
        raise ValueError(
            f"--transform fails on {images.source.name(index)} ({reason_of(error)}); correct it"
        ) from error
    return seen


class _SourceSubset:
    """Some images of a source."""

    def __init__(self, source: ImageSource, indices: np.ndarray) -> None:
        self._source = source
        self._indices = indices

    def read(self, index: int) -> Any:
        return self._source.read(int(self._indices[index]))

    def name(self, index: int) -> str:
        return self._source.name(int(self._indices[index]))
