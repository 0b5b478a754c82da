"""The lab's models by name.

``make_model`` makes classifiers: small ones (``MODELS``), timm's, and the encoder of a finished run of
--task mae (``pretrained``). The models of other tasks have modules of their own: ``masked`` (mae),
``unets`` (diffusion), ``segmentation`` and ``language`` (tuning).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from infobatch.lab.models.masked import Shape
from infobatch.lab.models.norms import Norm
from infobatch.lab.models.pretrained import check_pretrained, check_pretrained_fits, make_pretrained
from infobatch.lab.models.resnet import RESNETS
from infobatch.lab.models.small_cnn import small_cnn
from infobatch.lab.models.speed_cnn import SMALLEST_IMAGE, SPEED_CNNS, SpeedCNN
from infobatch.lab.names import choose

MODELS: dict[str, Callable[..., nn.Module]] = {"small-cnn": small_cnn, **RESNETS, **SPEED_CNNS}

TIMM = "timm/"
"""What the names of timm's models begin with; the package has to be installed."""


def make_model(
    name: str, num_channels: int, num_classes: int, stem_stride: int = 1, norm: Norm = "batch"
) -> nn.Module:
    """Make a classifier, its new weights drawn from PyTorch's global generator.

    Args:
        name: One of :data:`MODELS`, the name of one of timm's after ``timm/``, or the folder of a
            finished run of --task mae, whose encoder then gets a new last layer.
        num_channels: The images' channels.
        num_classes: The number of logits.
        stem_stride: By what a ResNet's stem shrinks the image: 1, 2 or 4.
        norm: The normalization layers of :data:`MODELS`.

    Returns:
        A module that takes images, float (B, C, H, W), and gives logits (B, num_classes).

    Raises:
        ValueError: If there is no model of that name, or the folder holds no such run.
        ImportError: If timm is asked for and cannot be imported.
    """
    if name.startswith(TIMM):
        model: nn.Module = _import_timm().create_model(
            name.removeprefix(TIMM), in_chans=num_channels, num_classes=num_classes
        )
        return model
    if is_run(name):
        return make_pretrained(name, num_classes)
    options: dict[str, Any] = {"norm": norm}
    if name in RESNETS:
        options["stem_stride"] = stem_stride
    return choose("model", name, MODELS)(num_channels, num_classes, **options)


def check_model(name: str, stem_stride: int, norm: Norm) -> None:
    """Refuse a model that cannot be made, and options that it does not have.

    Args:
        name: See :func:`make_model`.
        stem_stride: See :func:`make_model`.
        norm: See :func:`make_model`.

    Raises:
        ValueError: If there is no such model, or an option is not the model's.
        ImportError: If timm is asked for and cannot be imported.
    """
    if name.startswith(TIMM):
        _import_timm()
    elif is_run(name):
        check_pretrained(name)
    else:
        choose("model", name, MODELS)
    if stem_stride != 1 and name not in RESNETS:
        raise ValueError(f"--stem-stride is {stem_stride}, but {name} has no such stem; leave it out")
    if norm != "batch" and (name.startswith(TIMM) or is_run(name)):
        raise ValueError(f"--norm is {norm}, but {name} comes with its own; leave it out")


def is_run(name: str) -> bool:
    """Whether a model's name is the folder of a run."""
    if name in MODELS or name.startswith(TIMM):
        return False
    return "/" in name or (Path(name) / "config.json").is_file()


def check_model_fits(name: str, shape: Shape) -> None:
    """Refuse a model that is made for images of another shape.

    Args:
        name: See :func:`make_model`.
        shape: Channels, height and width of the data's images.

    Raises:
        ValueError: If the model takes images of one shape, and that is another, or larger ones.
    """
    if name in SPEED_CNNS and min(shape[1:]) < SMALLEST_IMAGE:
        raise ValueError(
            f"--model {name} takes images of at least {SMALLEST_IMAGE} pixels a side, and these have "
            f"{shape[1]} x {shape[2]}; take another model, such as small-cnn"
        )
    if is_run(name):
        check_pretrained_fits(name, shape)


def _import_timm() -> Any:
    try:
        import timm
    except Exception as error:  # timm may be there and its torchvision not fit this PyTorch
        raise ImportError(
            f"models named {TIMM}NAME need timm and torchvision, and importing them failed "
            f"({type(error).__name__}: {error}): pip install timm"
        ) from error
    return timm


__all__ = ["MODELS", "TIMM", "SpeedCNN", "check_model", "check_model_fits", "make_model"]
