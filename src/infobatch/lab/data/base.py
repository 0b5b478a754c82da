"""What every data set has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Data(ABC):
    """A data set with its splits. ``class_names``: empty where it has no classes."""

    name: str
    train: Any
    test: Any
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image as the model sees it: channels, height, width."""
        raise NotImplementedError(f"{self.name} has no images of one size")

    @property
    def train_labels(self) -> Tensor | None:
        """The one class of each training sample, int64 (N,); None where it has none, or several."""
        return None

    @property
    def class_members(self) -> tuple[Tensor, Tensor] | None:
        """Which training samples have which class: pairs of both, int64 (M,) each; None without any."""
        labels = self.train_labels
        if labels is None:
            return None
        return torch.arange(len(labels)), labels.cpu()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of it before anything is trained."""
        return ()

    def with_rare_classes(self, share: float) -> Tensor:
        """Which training samples have a class that less than a ``share`` of them have, bool (N,).

        ``ValueError`` if that is none, or all of them.
        """
        assert self.class_members is not None
        samples, classes = self.class_members
        num_samples = len(self.train)
        counts = torch.bincount(classes, minlength=self.num_classes)
        rare = torch.zeros(num_samples, dtype=torch.bool)
        rare[samples[counts[classes] < share * num_samples]] = True
        if not rare.any() or rare.all():
            whom, remedy = ("all", "lower") if rare.all() else ("none", "raise")
            least = float(counts[counts > 0].min() / num_samples)
            raise ValueError(
                f"--segmentation.protect is {share:g}, by which {whom} of the {num_samples:,} training "
                f"images of {self.name} would be kept in every epoch (its rarest class is in "
                f"{least:.1%} of them); {remedy} it, or leave it out"
            )
        return rare

    def split(self, held_out: float, num_train: int) -> Data:
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
        return self.of_training(train, order[:num_held].sort().values if num_held else None)

    @abstractmethod
    def of_training(self, train: Tensor, test: Tensor | None = None) -> Data:
        """With some samples of its training set, int64 indices, to train and, if given, to test on."""
