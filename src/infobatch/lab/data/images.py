"""A labelled image set in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


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

    @property
    def train_labels(self) -> Tensor:
        return self.train.labels

    def split(self, held_out: float, num_train: int) -> ImageData:
        """With a random share of the training set as the test set, and a random part of the rest.

        ``held_out``: the share, in [0, 1); 0 keeps the test set. ``num_train``: samples to train on; 0
        for all. The same for the same numbers.
        """
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(0))
        num_held = round(held_out * len(order))
        left = order[num_held:]
        if num_train > len(left):
            raise ValueError(
                f"--train-samples is {num_train:,}, but {self.name} has only {len(left):,} to train on; "
                "lower it"
            )
        train = left[: num_train or None].sort().values
        if num_held == 0:
            return replace(self, train=self.train.part(train))
        held = order[:num_held].sort().values
        return replace(self, train=self.train.part(train), test=self.train.part(held))

    def to(self, device: torch.device) -> ImageData:
        return replace(self, train=self.train.to(device), test=self.test.to(device))


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
