"""A labelled image set in memory, and its augmentation in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from infobatch.seeding import epoch_generator

# Far from the streams of the library, whose generators the augmentation must not repeat.
_AUGMENTATION_STREAM = 1 << 16


@dataclass(frozen=True)
class Images:
    """``pixels`` uint8 (N, C, H, W), ``labels`` int64 (N,) in 0..num_classes-1."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices)
        chosen = chosen.to(self.labels.device, non_blocking=True)
        return self.pixels[chosen], self.labels[chosen]

    def to(self, device: torch.device) -> Images:
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class ImageData:
    """A data set with its splits, normalised per channel by the training pixels.

    ``crop_padding``: pixels of reflect padding that random crops are taken from; ``flip``: whether a
    mirror image keeps its class.
    """

    name: str
    train: Images
    test: Images
    class_names: tuple[str, ...]
    crop_padding: int
    flip: bool

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_channels(self) -> int:
        return int(self.train.pixels.shape[1])

    def to(self, device: torch.device) -> ImageData:
        return replace(self, train=self.train.to(device), test=self.test.to(device))


class Normalize:
    """uint8 pixels to float with mean 0 and variance 1 per channel over the training set."""

    def __init__(self, pixels: Tensor) -> None:
        part = pixels[:: max(1, len(pixels) // 10_000)].double()
        mean = part.mean(dim=(0, 2, 3), keepdim=True)
        std = part.std(dim=(0, 2, 3), keepdim=True)
        self.mean, self.std = mean[0].float(), std[0].float().clamp(min=1e-3)

    def __call__(self, pixels: Tensor) -> Tensor:
        return (pixels.float() - self.mean) / self.std


class Augment:
    """Random crops with reflect padding and flips, decided by (seed, epoch, index) alone.

    So a sample looks the same in an epoch of every arm of a comparison and of a resumed run,
    whatever its batch mates are.
    """

    def __init__(self, data: ImageData, seed: int) -> None:
        padding = data.crop_padding
        border = ((0, 0), (0, 0), (padding, padding), (padding, padding))
        pixels = np.pad(data.train.pixels.cpu().numpy(), border, mode="reflect")
        height, width = data.train.pixels.shape[2:]
        padded = torch.from_numpy(pixels).to(data.train.pixels.device)
        self._windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        self._offsets = 2 * padding + 1
        self._flip = data.flip
        self._seed = seed

    def begin(self, epoch: int) -> None:
        num_samples, device = len(self._windows), self._windows.device
        generator = epoch_generator(self._seed, epoch, _AUGMENTATION_STREAM)
        shifts = torch.randint(self._offsets, (2, num_samples), generator=generator)
        self._shifts = shifts.to(device)
        self._flips = (torch.rand(num_samples, generator=generator) < 0.5).to(device)

    def __call__(self, indices: Tensor) -> Tensor:
        """The augmented training pixels of ``indices`` (B,), uint8 (B, C, H, W)."""
        rows, columns = self._shifts[:, indices]
        pixels = self._windows[indices, :, rows, columns]
        if not self._flip:
            return pixels
        return torch.where(self._flips[indices][:, None, None, None], pixels.flip(3), pixels)
