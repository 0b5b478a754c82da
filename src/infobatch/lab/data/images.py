"""A labelled image set in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from infobatch.lab.data.base import Data


def complaint(error: Exception) -> str:
    """Of Pillow about an image: its words, but for the object in memory that an unknown format has."""
    from PIL import UnidentifiedImageError

    return "of no known format" if isinstance(error, UnidentifiedImageError) else str(error)


def unreadable(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name} is not a readable image ({complaint(error)}); replace it, or remove it")


@dataclass(frozen=True)
class Images:
    """``pixels`` uint8 (N, C, H, W), ``labels`` int64 (N,) in 0..num_classes-1."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices)
        chosen = chosen.to(self.labels.device, non_blocking=True)
        return self.pixels[chosen], self.labels[chosen]

    def part(self, indices: Tensor) -> Images:
        return Images(self.pixels[indices], self.labels[indices])

    def to(self, device: torch.device) -> Images:
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class ImageData(Data):
    """A set in memory, normalised per channel by the training pixels.

    ``crop_padding``: pixels of reflect padding that random crops are taken from; ``flip``: whether a
    mirror image keeps its class.
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
    def num_channels(self) -> int:
        return self.shape[0]

    @property
    def train_labels(self) -> Tensor:
        return self.train.labels

    def of_training(self, train: Tensor, test: Tensor | None = None) -> ImageData:
        tested = self.test if test is None else self.train.part(test)
        return replace(self, train=self.train.part(train), test=tested)

    def to(self, device: torch.device) -> ImageData:
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def write_picture(pixels: Tensor, path: Path) -> None:
    """``pixels``: uint8 (C, H, W), grey or coloured."""
    from PIL import Image

    Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()).save(path)


class Normalize:
    """uint8 pixels (B, C, H, W) to floats of about mean 0 and variance 1 in each channel.

    ``mean`` and ``std``: (C,), of pixels between 0 and 255.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean[:, None, None].float(), std[:, None, None].float().clamp(min=1e-3)

    @classmethod
    def of(cls, pixels: Tensor) -> Normalize:
        """By the statistics of (a part of) a training set's pixels."""
        part = pixels[:: max(1, len(pixels) // 10_000)].double()
        return cls(part.mean(dim=(0, 2, 3)), part.std(dim=(0, 2, 3)))

    def to(self, device: torch.device) -> Normalize:
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self

    def __call__(self, pixels: Tensor) -> Tensor:
        return (pixels.float() - self.mean) / self.std
