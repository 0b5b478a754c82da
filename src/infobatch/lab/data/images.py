"""Labelled images in memory, and what is said of images that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from infobatch.lab.data.base import Data

if TYPE_CHECKING:
    from PIL.Image import Image


def pillow_reason(error: Exception) -> str:
    """Why Pillow cannot read an image; its own words, except where they show an object in memory."""
    from PIL import UnidentifiedImageError

    return "of no known format" if isinstance(error, UnidentifiedImageError) else str(error)


def unreadable(name: str, error: Exception) -> ValueError:
    """The error to raise for an image that Pillow cannot read."""
    reason = pillow_reason(error)
    return ValueError(f"{name} is not a readable image ({reason}); replace it, or remove it")


def has_deep_shades(picture: Image) -> bool:
    """Whether a picture has more than 8 bits for a shade, so that Pillow would make most of it white."""
    return picture.mode.startswith(("I", "F"))


def in_rgb(picture: Image) -> Image:
    """A picture in RGB, of the same scale as any other: shades of 16 bits are divided by 256.

    Args:
        picture: A picture of Pillow, whose versions give one of 16 bits the mode I or I;16.

    Returns:
        The picture, with 8 bits for a shade.

    Raises:
        ValueError: If its shades are not of 16 bits: what is white in it is not known.
    """
    from PIL import Image

    if not has_deep_shades(picture):
        return picture.convert("RGB")
    shades = np.asarray(picture)
    low, high = float(shades.min()), float(shades.max())
    if picture.mode == "F" or low < 0 or high >= 1 << 16:
        raise ValueError(
            f"its shades are from {low:g} to {high:g} in mode {picture.mode}, and what is white is not "
            "known: save it with 8 or 16 bits a shade"
        )
    return Image.fromarray((shades >> 8).astype(np.uint8)).convert("RGB")


def check_labels(labels: Tensor, num_classes: int, whose: str, place: Callable[[int], str]) -> None:
    """Refuse labels that are out of range; ``place`` names an index's file and row in the error."""
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"label {int(labels[row])} in {place(row)} is out of range; {whose} classes "
            f"0..{num_classes - 1}"
        )


@dataclass(frozen=True)
class Images:
    """Images and their classes.

    Args:
        pixels: uint8 (N, C, H, W).
        labels: int64 (N,), from 0 to the number of classes - 1.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The pixels and labels of some images, on the device that has them all."""
        chosen = indices.to(self.labels.device, non_blocking=True)
        return self.pixels[chosen], self.labels[chosen]

    def subset(self, indices: Tensor) -> Images:
        return Images(self.pixels[indices], self.labels[indices])

    def to(self, device: torch.device) -> Images:
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class ImageData(Data):
    """A set in memory, normalized per channel by the training pixels.

    Args:
        train: The training images.
        test: The test images.
        crop_padding: Pixels of reflect padding on each side, out of which random crops are taken.
        flip: Whether a mirror image keeps its class, so that training may flip images.
    """

    train: Images
    test: Images
    crop_padding: int
    flip: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.train.pixels.shape[1:]
        return channels, height, width

    @property
    def train_labels(self) -> Tensor:
        return self.train.labels

    def to(self, device: torch.device) -> ImageData:
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def write_picture(pixels: Tensor, path: Path) -> None:
    """Write an image, uint8 (C, H, W) of 1 or 3 channels, in the format that the path's ending names."""
    from PIL import Image

    Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()).save(path)


class Normalize:
    """Makes of uint8 pixels (B, C, H, W) floats of about mean 0 and variance 1 in each channel.

    Args:
        mean: The mean of each channel's pixels, (C,), between 0 and 255.
        std: Their standard deviation, (C,).
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean[:, None, None].float(), std[:, None, None].float().clamp(min=1e-3)

    @classmethod
    def of(cls, pixels: Tensor) -> Normalize:
        """Normalizes by the statistics of a training set's pixels.

        Of a large set every k-th image counts, 10,000 to 20,000 in all.
        """
        part = pixels[:: max(1, len(pixels) // 10_000)].double()
        return cls(part.mean(dim=(0, 2, 3)), part.std(dim=(0, 2, 3)))

    @property
    def mean_color(self) -> Tensor:
        """The mean of each channel, uint8 (C,)."""
        return self.mean.flatten().round().to(torch.uint8)

    def to(self, device: torch.device) -> Normalize:
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self

    def __call__(self, pixels: Tensor) -> Tensor:
        return (pixels.float() - self.mean) / self.std
