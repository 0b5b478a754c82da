"""Options that only one task has; on the command line ``--task.option``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


def require(flag: str, value: object, holds: bool, rule: str) -> None:
    """Raise ``ValueError`` for an option's value that cannot be."""
    if not holds:
        raise ValueError(f"{flag} is {value}; it must be {rule}")


@dataclass(frozen=True)
class SegmentationOptions:
    """Of --task segmentation."""

    crop: int = 512
    """Side of the training crops, in pixels."""

    def check(self) -> None:
        require("--segmentation.crop", self.crop, self.crop >= 16, "at least 16")


@dataclass(frozen=True)
class MaskedOptions:
    """Of --task mae, pre-training of a masked autoencoder."""

    mask_ratio: float = 0.75
    """Share of the patches that are masked."""
    patch: int = 0
    """Side of a patch, in pixels; 0 for the model's own."""
    norm_pix_loss: bool = True
    """Take the error to pixels normalised patch by patch."""
    smallest_crop: float = 0.2
    """Least share of its image that a training crop takes, of images decoded as they are read."""
    probe: Literal["knn", "linear", "none"] = "knn"
    """Judge the features by the classes of their nearest neighbours, or a linear classifier's; none: the
    model by its loss on the test images."""

    def check(self) -> None:
        ratio, crop = self.mask_ratio, self.smallest_crop
        require("--mae.mask-ratio", ratio, 0 < ratio < 1, "between 0 and 1")
        require("--mae.patch", self.patch, self.patch >= 0, "at least 1, or 0 for the model's own")
        require("--mae.smallest-crop", crop, 0 < crop <= 1, "above 0 and at most 1")


@dataclass(frozen=True)
class TuningOptions:
    """Of --task tuning, of a language model on instructions."""

    max_length: int = 512
    """Tokens of instruction and answer together."""

    def check(self) -> None:
        require("--tuning.max-length", self.max_length, self.max_length >= 8, "at least 8")


@dataclass(frozen=True)
class DiffusionOptions:
    """Of --task diffusion."""

    timesteps: int = 1000
    """Steps of the noise schedule."""

    def check(self) -> None:
        require("--diffusion.timesteps", self.timesteps, self.timesteps >= 2, "at least 2")
