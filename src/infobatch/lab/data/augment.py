"""Augmentation in batches on the device, decided by (seed, epoch, index) alone.

So a sample looks the same in an epoch of every arm of a comparison, of a resumed run and of a run on
several ranks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from infobatch.lab.data.images import ImageData
from infobatch.lab.random_streams import Stream
from infobatch.seeding import epoch_generator


class Augmented(Dataset[Any]):
    """Samples that loader processes augment, by random numbers of (seed, epoch, index) alone.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    def begin(self, epoch: int) -> None:
        """Begin an epoch, also in loader processes that run already: they share its number.

        Args:
            epoch: The epoch's number.
        """
        self._epoch.fill_(epoch)

    def _rng(self, index: int) -> np.random.Generator:
        """The generator of one sample in the epoch under way."""
        return np.random.default_rng([self._seed, Stream.AUGMENTATION, int(self._epoch), index])


class Augment:
    """Random crops with reflect padding, flips, and squares that are blanked.

    What is drawn for an epoch lies where that of the last one lay, as a recorded step expects.

    Args:
        data: The images, on the device, and how they may be augmented.
        seed: The run's seed.
        cutout: The side of a blanked square, in pixels; 0 for none.
        blank: The color of the squares, uint8 (C,) on the device.
    """

    def __init__(self, data: ImageData, seed: int, cutout: int = 0, blank: Tensor | None = None) -> None:
        pixels, padding = data.train.pixels, data.crop_padding
        num_samples, _, height, width = pixels.shape
        rows, columns = (_reflected(size, padding, pixels.device) for size in (height, width))
        padded = pixels[:, :, rows][:, :, :, columns]
        self._windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        self._offsets = 2 * padding + 1
        self._flip = data.flip
        self._seed = seed
        self._cutout, self._blank = cutout, blank
        self._shifts = torch.zeros(2, num_samples, dtype=torch.int64, device=pixels.device)
        self._flips = torch.zeros(num_samples, dtype=torch.bool, device=pixels.device)
        self._corners = torch.zeros_like(self._shifts)

    def begin(self, epoch: int) -> None:
        """Draw the epoch's crops and flips.

        Args:
            epoch: The epoch's number.
        """
        num_samples = len(self._windows)
        generator = epoch_generator(self._seed, epoch, Stream.AUGMENTATION)
        self._shifts.copy_(torch.randint(self._offsets, (2, num_samples), generator=generator))
        self._flips.copy_(torch.rand(num_samples, generator=generator) < 0.5)
        if self._cutout:
            for corners, size in zip(self._corners, self._windows.shape[4:], strict=True):
                last = max(1, size - self._cutout + 1)
                corners.copy_(torch.randint(last, (num_samples,), generator=generator))

    def __call__(self, indices: Tensor) -> Tensor:
        """Augment training images.

        Args:
            indices: Which images, int64 (B,).

        Returns:
            Their pixels, uint8 (B, C, H, W).
        """
        rows, columns = self._shifts[:, indices]
        pixels = self._windows[indices, :, rows, columns]
        if self._flip:
            pixels = torch.where(self._flips[indices][:, None, None, None], pixels.flip(3), pixels)
        if self._cutout:
            assert self._blank is not None
            pixels = torch.where(self._squares(indices), self._blank[:, None, None], pixels)
        return pixels

    def _squares(self, indices: Tensor) -> Tensor:
        """Which pixels are blanked, bool (B, 1, H, W)."""
        inside = []
        for corners, size in zip(self._corners, self._windows.shape[4:], strict=True):
            places = torch.arange(size, device=corners.device) - corners[indices][:, None]
            inside.append((places >= 0) & (places < self._cutout))
        squares: Tensor = inside[0][:, :, None] & inside[1][:, None, :]
        return squares[:, None]


def _reflected(size: int, padding: int, device: torch.device) -> Tensor:
    """The places of a line of pixels with ``padding`` mirrored ones at each end, int64."""
    return torch.from_numpy(np.pad(np.arange(size), padding, mode="reflect")).to(device)


class Mixing:
    """Mixup or cutmix: each image is mixed with the next of its batch.

    An image's share of its own mixture is drawn for it in each epoch. Its partner depends on the batch,
    and so does its loss, which is therefore a noisier score.

    Args:
        num_samples: N, the training images.
        mixup: Alpha of the Beta distribution of mixup's shares; 0 for none.
        cutmix: Alpha of the Beta distribution of cutmix's shares; 0 for none. One of the two is above 0.
        seed: The run's seed.

    Source: Zhang et al., mixup, ICLR 2018; Yun et al., CutMix, ICCV 2019.
    """

    def __init__(self, num_samples: int, mixup: float, cutmix: float, seed: int) -> None:
        self._num_samples = num_samples
        self._alpha = mixup or cutmix
        self._pastes = cutmix > 0
        self._seed = seed

    def begin(self, epoch: int, device: torch.device) -> None:
        """Draw the epoch's shares and boxes.

        Args:
            epoch: The epoch's number.
            device: Where the images will be.
        """
        generator = epoch_generator(self._seed, epoch, Stream.MIXING)
        rng = np.random.default_rng(generator.initial_seed())
        share = torch.from_numpy(rng.beta(self._alpha, self._alpha, self._num_samples))
        self._shares = share.float().to(device)
        self._centers = torch.rand(2, self._num_samples, generator=generator).to(device)

    def __call__(
        self, images: Tensor, labels: Tensor, indices: Tensor, num_classes: int
    ) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            images: (B, C, H, W).
            labels: Their classes, int64 (B,).
            indices: Which training images they are, int64 (B,) on the same device.
            num_classes: The number of classes.

        Returns:
            The mixed images (B, C, H, W), and each class's share of them (B, num_classes).
        """
        own = self._shares[indices]
        others = images.roll(1, 0)
        if self._pastes:
            pasted = self._boxes(own, indices, images.shape[2], images.shape[3])
            own = 1 - pasted.flatten(1).float().mean(1)  # what the box, cut off at the edges, leaves
            mixed = torch.where(pasted[:, None], others, images)
        else:
            mixed = others.lerp(images, own[:, None, None, None])
        targets = F.one_hot(labels, num_classes).float()
        return mixed, targets.roll(1, 0).lerp(targets, own[:, None])

    def _boxes(self, own: Tensor, indices: Tensor, height: int, width: int) -> Tensor:
        """Whether a pixel lies in its image's box, bool (B, H, W)."""
        half = (1 - own).sqrt() / 2
        inside: list[Tensor] = []
        for centers, size in zip(self._centers, (height, width), strict=True):
            places = (torch.arange(size, device=own.device) + 0.5) / size
            inside.append((places - centers[indices][:, None]).abs() < half[:, None])
        return inside[0][:, :, None] & inside[1][:, None, :]
