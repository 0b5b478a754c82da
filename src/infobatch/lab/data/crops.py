"""How segmentation sets reach the device: decoded, scaled and cropped by the loader's processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from infobatch.distributed import Replicas
from infobatch.lab.data.augment import Augmented
from infobatch.lab.data.feed import Batch, ImageFeed, loader_options, pair_on, workers_of
from infobatch.lab.data.images import Normalize
from infobatch.lab.data.segmentation import IGNORED, Annotated, SegmentationData
from infobatch.lab.data.streamed import MEAN, STD

TRIES = 10
"""How often a crop is drawn anew until no class fills it, as in mmsegmentation."""
PADDING = tuple(MEAN.round().to(torch.uint8).tolist())
"""The color of padding, which is about 0 once normalized."""

Sample = tuple[Tensor, Tensor]
"""Pixels uint8 (3, height, width), and classes uint8 (height, width), IGNORED where unlabelled."""


@dataclass(frozen=True)
class Cropping:
    """How training crops are cut.

    Args:
        side: The crops' side, in pixels.
        scales: The least and the largest factor by which an image is scaled before it is cropped.
        largest_class: The share of a crop that one class may fill, in (0, 1], where a few tries find
            such a crop; by default 1, which allows any.
    """

    side: int
    scales: tuple[float, float]
    largest_class: float = 1.0


class TrainCrops(Augmented):
    """Images at a random scale, cropped and flipped.

    Where a scaled image is smaller than the crop, it is padded on the right and below; the padding is
    not labelled.

    Args:
        images: The training images.
        short_side: What an image's shorter side is resized to, in pixels; None keeps its size.
        cropping: How they are cropped.
        seed: The run's seed.

    Source: mmsegmentation's training pipeline, without its photometric distortion.
    """

    def __init__(self, images: Annotated, short_side: int | None, cropping: Cropping, seed: int) -> None:
        super().__init__(seed)
        self._images = images
        self._short_side = short_side
        self._cropping = cropping

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        rng = self._rng(index)
        image, classes = self._images[index]
        width, height = scaled(image.size, self._short_side, rng.uniform(*self._cropping.scales))
        tries = TRIES if self._cropping.largest_class < 1 else 1
        for _ in range(tries):
            window = random_window(width, height, self._cropping.side, rng)
            cut = cut_classes(classes, (width, height), window)
            if largest_share(cut) < self._cropping.largest_class:
                break
        pixels = cut_pixels(image, (width, height), window)
        if rng.random() < 0.5:
            pixels, cut = pixels[:, ::-1], cut[:, ::-1]
        return as_tensors(*padded(pixels, cut, self._cropping.side))


class WholeImages(Dataset[Sample]):
    """Whole images, resized; their classes keep the size they have.

    Args:
        images: The images.
        short_side: What an image's shorter side is resized to, in pixels; None keeps its size.
    """

    def __init__(self, images: Annotated, short_side: int | None) -> None:
        self._images = images
        self._short_side = short_side

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        image, classes = self._images[index]
        size = scaled(image.size, self._short_side)
        return as_tensors(cut_pixels(image, size, (0, 0, *size)), classes)


class CropFeed(ImageFeed):
    """Batches of crops to train on, and of whole images of one size to test on.

    No test image is padded, so that its result depends neither on others nor on the number of ranks.

    Args:
        data: The set.
        cropping: How training images are cropped.
        device: Where the batches go.
        seed: The run's seed.
        workers: Loader processes; None for as many as there are cores.
    """

    TEST_BATCH = 8

    def __init__(
        self,
        data: SegmentationData,
        cropping: Cropping,
        device: torch.device,
        seed: int,
        workers: int | None,
    ) -> None:
        self.dataset = TrainCrops(data.train, data.short_side, cropping, seed)
        self.collate = default_collate
        self.normalize = Normalize(MEAN, STD).to(device)
        self._data = data
        self._device = device
        self.num_workers = workers_of(workers)

    def begin(self, epoch: int) -> None:
        self.dataset.begin(epoch)

    def __call__(self, batch: Any) -> Batch:
        return pair_on(self._device, *batch)

    def test_batches(self, replicas: Replicas) -> Iterator[Batch]:
        for _, batch in self._whole(self._data.test, self.TEST_BATCH, replicas):
            yield batch

    def plain_batches(self, size: int, replicas: Replicas) -> Iterator[tuple[Tensor, Batch]]:
        yield from self._whole(self._data.train, size, replicas)

    def _whole(self, images: Annotated, size: int, replicas: Replicas) -> Iterator[tuple[Tensor, Batch]]:
        """The rank's share of whole images in batches of one size, with their indices."""
        share = np.arange(replicas.rank, len(images), replicas.num_replicas)
        groups = of_one_size(images.sizes[share], size)
        indices = [share[group].tolist() for group in groups]
        loader = DataLoader(
            WholeImages(images, self._data.short_side),
            batch_sampler=indices,
            **loader_options(self.num_workers, self._device),
        )
        yield from zip(map(torch.tensor, indices), map(self, loader), strict=True)


def of_one_size(sizes: np.ndarray, most: int) -> list[np.ndarray]:
    """Group images of one size.

    Args:
        sizes: Height and width of each image, (n, 2).
        most: The largest group.

    Returns:
        Groups of places in ``sizes``.
    """
    _, kinds = np.unique(sizes, axis=0, return_inverse=True)
    groups: list[np.ndarray] = []
    for kind in range(kinds.max(initial=-1) + 1):
        members = np.flatnonzero(kinds.ravel() == kind)
        groups += np.split(members, range(most, len(members), most))
    return groups


def scaled(size: tuple[int, int], short_side: int | None, scale: float = 1.0) -> tuple[int, int]:
    """Scale an image's size, and keep its shape.

    Args:
        size: Width and height, in pixels.
        short_side: The length of the shorter side before it is scaled; None for the one it has.
        scale: The factor.

    Returns:
        The new width and height.
    """
    factor = scale if short_side is None else scale * short_side / min(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


Window = tuple[int, int, int, int]
"""Left, top, right and bottom within a scaled image, in its pixels."""


def random_window(width: int, height: int, side: int, rng: np.random.Generator) -> Window:
    """Draw a window of ``side`` pixels each way, or of as many as there are."""
    w, h = min(width, side), min(height, side)
    left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    return left, top, left + w, top + h


def cut_pixels(image: Any, size: tuple[int, int], window: Window) -> np.ndarray:
    """A window of the image as resized to ``size``, uint8 (h, w, 3)."""
    from PIL.Image import Resampling

    return np.asarray(_cut(image, size, window, Resampling.BILINEAR))


def cut_classes(classes: np.ndarray, size: tuple[int, int], window: Window) -> np.ndarray:
    """A window of the pixels' classes as resized to ``size``, uint8 (h, w)."""
    from PIL.Image import Resampling, fromarray

    return np.asarray(_cut(fromarray(classes), size, window, Resampling.NEAREST))


def _cut(image: Any, size: tuple[int, int], window: Window, resampling: Any) -> Any:
    """A window of the image as resized to ``size``; the rest of it is never computed."""
    left, top, right, bottom = window
    across, down = image.width / size[0], image.height / size[1]
    box = (left * across, top * down, min(right * across, image.width), min(bottom * down, image.height))
    return image.resize((right - left, bottom - top), resampling, box=box)


def largest_share(classes: np.ndarray) -> float:
    """The share of the labelled pixels that have the most frequent class; 1 if none is labelled."""
    counts = np.bincount(classes.ravel(), minlength=256)[:IGNORED]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


def padded(pixels: np.ndarray, classes: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Pad pixels and classes to ``side`` pixels each way."""
    height, width = classes.shape
    if (height, width) == (side, side):
        return pixels, classes
    whole = np.full((side, side, 3), PADDING, np.uint8)
    whole[:height, :width] = pixels
    ignored = np.full((side, side), IGNORED, np.uint8)
    ignored[:height, :width] = classes
    return whole, ignored


def as_tensors(pixels: np.ndarray, classes: np.ndarray) -> Sample:
    """Pixels (h, w, 3) and classes (h, w) as tensors that own their memory."""
    arrays: Sequence[np.ndarray] = (pixels.transpose(2, 0, 1), classes)
    image, labels = (torch.from_numpy(np.array(array)) for array in arrays)
    return image, labels
