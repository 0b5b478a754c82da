"""The options that only one task has; on the command line they are ``--task.option``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SegmentationOptions:
    """Options of --task segmentation."""

    crop: int = 512
    """Side of the training crops, in pixels."""
    min_scale: float = 0.5
    """Smallest factor by which a training image is scaled before it is cropped."""
    max_scale: float = 2.0
    """Largest factor by which a training image is scaled before it is cropped."""
    largest_class: float = 1.0
    """Largest share of a crop that one class may fill, if one of ten tries finds such; 1 accepts any."""
    encoder: str = ""
    """Pretrained weights of the encoder: a folder, or a name on the hub such as microsoft/resnet-50."""
    protect: float = 0.0
    """Keep in every epoch each image with a class that less than this share of the images contain."""
    skip_bad: bool = False
    """Leave out images that cannot be trained on; by default the first of them is an error."""


@dataclass(frozen=True)
class MaskedOptions:
    """Options of --task mae, the pre-training of a masked autoencoder."""

    mask_ratio: float = 0.75
    """Share of the patches that are masked."""
    patch: int = 0
    """Side of a patch, in pixels; 0 takes the model's own."""
    norm_pix_loss: bool = True
    """Compute the loss on pixels that are normalized within each patch."""
    smallest_crop: float = 0.2
    """Smallest share of an image that a training crop covers, where images are decoded as read."""
    evaluate: Literal["knn", "linear", "none"] = "knn"
    """Evaluate features by nearest neighbors (knn) or a linear classifier (linear); none: the loss."""


@dataclass(frozen=True)
class TuningOptions:
    """Options of --task tuning, the training of a language model on instructions."""

    max_length: int = 512
    """Largest number of tokens of instruction and answer together; longer answers are cut off."""
    skip_bad: bool = False
    """Leave out, and count, rows whose answer is empty or cut off whole; by default it is an error."""
    num_generated: int = 200
    """Number of test rows that are answered by greedy generation to count exact matches; 0 for none."""
    lora_rank: int = 0
    """Train adapters of this rank beside each linear layer and nothing else; 0 trains all weights."""
    lora_alpha: int = 16
    """Scale of the adapters' output, which is multiplied by this number over the rank."""
    micro_batch: int = 0
    """Number of samples that a process computes at once, gradients summed up; 0 takes all of a batch."""


@dataclass(frozen=True)
class DiffusionOptions:
    """Options of --task diffusion."""

    timesteps: int = 1000
    """Number of steps of the noise schedule."""
    schedule: Literal["linear", "cosine"] = "linear"
    """Noise schedule: linear (Ho et al., 2020) or cosine (Nichol and Dhariwal, 2021)."""
    dropout: float = 0.0
    """Share of the U-Net's activations that are dropped."""
    class_conditional: bool = False
    """Give the U-Net the class of each image."""
    scores: Literal["timestep", "loss"] = "timestep"
    """Score of an image: its loss over the mean loss at its timestep (timestep), or its loss (loss)."""
    test_draws: int = 1
    """Number of timesteps and noises at which each test image is evaluated."""
    features: str = ""
    """TorchScript file that maps images to features; an evaluation then gives the FID."""
    num_generated: int = 10_000
    """Number of images that are generated for the FID."""
    sampling_steps: int = 50
    """Number of DDIM steps in which an image is generated."""


@dataclass(frozen=True)
class OwnOptions:
    """Options of --task own, a training function of yours."""

    train: str = ""
    """The function, as FILE.py:NAME or MODULE:NAME."""
    metric: str = "accuracy %"
    """What it returns, for the tables; a name that ends in % has a margin of 0.5."""
    lower_is_better: bool = False
    """Whether less of it is better."""


TableMetric = Literal[
    "log-loss", "accuracy", "balanced-accuracy", "auc", "average-precision", "calibration-error"
]


@dataclass(frozen=True)
class TabularOptions:
    """Options of --task tabular and --task regression."""

    target: str = ""
    """Column of classes, or of numbers, for --data table."""
    metric: TableMetric = "log-loss"
    """What runs of --task tabular are judged by. auc and average-precision are for two classes."""
    positive: str = ""
    """Of two classes of --data table the one that is looked for; by default the rarer one."""
    leave_out: tuple[str, ...] = ()
    """Columns of --data table that are not learned from, such as what is known after the class."""
    layers: int = 2
    """Number of hidden layers; 0 is logistic regression."""
    width: int = 256
    """Width of each."""
    batch_norm: bool = False
    """Put batch norm after each."""
