"""Which patches of an image are masked, decided by (seed, epoch, index) alone."""

from __future__ import annotations

import torch
from torch import Tensor

from infobatch.lab.random_streams import Stream
from infobatch.seeding import epoch_generator

GOLDEN, FIRST, SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""SplitMix64's constants (Steele et al., 2014), as signed numbers."""


class Masks:
    """Random numbers for the patches of images; a model masks the patches with the highest.

    They are computed for one batch at a time, on the device: those of a million images take 2 GB. An
    epoch draws one key for each patch; a number is that key mixed with the sample's index.

    Args:
        seed: The run's seed.
        num_patches: The patches of an image.
        device: Where the numbers are computed.
    """

    def __init__(self, seed: int, num_patches: int, device: torch.device) -> None:
        self._seed = seed
        self._num_patches = num_patches
        self._device = device

    def begin(self, epoch: int) -> None:
        """Draw the epoch's keys."""
        generator = epoch_generator(self._seed, epoch, Stream.MASKS)
        keys = torch.empty(self._num_patches, dtype=torch.int64).random_(generator=generator)
        self._keys = keys.to(self._device)

    def __call__(self, indices: Tensor) -> Tensor:
        """The numbers of the samples ``indices``, int64 (B,) on the device: int64 (B, num_patches)."""
        return _mixed(self._keys + indices[:, None] * GOLDEN)


def _mixed(numbers: Tensor) -> Tensor:
    """SplitMix64's last step, after which each bit of a number depends on all of its bits before."""
    numbers = (numbers ^ _shifted(numbers, 30)) * FIRST
    numbers = (numbers ^ _shifted(numbers, 27)) * SECOND
    return numbers ^ _shifted(numbers, 31)


def _shifted(numbers: Tensor, places: int) -> Tensor:
    """The numbers shifted to the right, with zeros from the left."""
    return (numbers >> places) & ((1 << (64 - places)) - 1)
