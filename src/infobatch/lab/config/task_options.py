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
    min_scale: float = 0.5
    """Least factor by which a training image is scaled before it is cropped."""
    max_scale: float = 2.0
    """Largest factor."""
    largest_class: float = 1.0
    """Share of a crop that one class may fill, where ten tries find such a crop; 1 for any."""
    encoder: str = ""
    """Pretrained weights of the encoder: a folder, or a name on the hub such as microsoft/resnet-50."""
    protect: float = 0.0
    """Keep in every epoch the images that have a class which less than this share of them have."""
    skip_bad: bool = False
    """Leave out images that cannot be trained on, in place of an error that names the first."""

    def check(self) -> None:
        require("--segmentation.crop", self.crop, self.crop >= 32, "at least 32")
        scale, largest = self.min_scale, self.largest_class
        require("--segmentation.min-scale", scale, 0 < scale <= 10, "above 0 and at most 10")
        holds = scale <= self.max_scale <= 10
        require(
            "--segmentation.max-scale",
            self.max_scale,
            holds,
            "at least --segmentation.min-scale, and at most 10",
        )
        require("--segmentation.largest-class", largest, 0 < largest <= 1, "above 0 and at most 1")
        require("--segmentation.protect", self.protect, 0 <= self.protect <= 1, "between 0 and 1")


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
    """The most tokens of instruction and answer together; an answer is cut off there."""
    skip_bad: bool = False
    """Leave out, and count, rows of which nothing is learned: no answer, or one that is all cut off."""
    num_generated: int = 200
    """Test rows that are answered by greedy generation, to count exact matches; 0 for none."""
    lora_rank: int = 0
    """Train adapters of this rank beside every linear layer, and nothing else; 0 trains all weights."""
    lora_alpha: int = 16
    """What the adapters add is scaled by this over the rank."""
    micro_batch: int = 0
    """Samples that a process takes at once, their gradients summed up to the batch; 0 for all."""

    def check(self) -> None:
        require("--tuning.max-length", self.max_length, self.max_length >= 8, "at least 8")
        require("--tuning.num-generated", self.num_generated, self.num_generated >= 0, "at least 0")
        require("--tuning.lora-rank", self.lora_rank, self.lora_rank >= 0, "at least 0")
        require("--tuning.lora-alpha", self.lora_alpha, self.lora_alpha > 0, "above 0")
        require("--tuning.micro-batch", self.micro_batch, self.micro_batch >= 0, "at least 0")


@dataclass(frozen=True)
class DiffusionOptions:
    """Of --task diffusion."""

    timesteps: int = 1000
    """Steps of the noise schedule."""
    schedule: Literal["linear", "cosine"] = "linear"
    """Of the noise: linear (Ho et al., 2020) or cosine (Nichol and Dhariwal, 2021)."""
    dropout: float = 0.0
    """Share of the U-Net's activations that are dropped."""
    class_conditional: bool = False
    """Tell the U-Net the class of each image."""
    scores: Literal["timestep", "loss"] = "timestep"
    """What is remembered of an image: its loss over what is usual at its timestep, or as it is."""
    test_draws: int = 1
    """Timesteps and noises that each test image is evaluated at."""
    features: str = ""
    """A TorchScript file that makes features of images: an evaluation then gives the FID."""
    num_generated: int = 10_000
    """Images generated for the FID."""
    sampling_steps: int = 50
    """Steps of DDIM in which an image is generated."""

    def check(self) -> None:
        rules: dict[str, tuple[bool, str]] = {
            "timesteps": (self.timesteps >= 2, "at least 2"),
            "dropout": (0 <= self.dropout < 1, "at least 0 and less than 1"),
            "test_draws": (self.test_draws >= 1, "at least 1"),
            "num_generated": (self.num_generated >= 2, "at least 2"),
            "sampling_steps": (
                1 <= self.sampling_steps <= self.timesteps,
                f"at least 1 and at most --diffusion.timesteps, {self.timesteps}",
            ),
        }
        for name, (holds, rule) in rules.items():
            require(f"--diffusion.{name.replace('_', '-')}", getattr(self, name), holds, rule)
