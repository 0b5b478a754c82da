"""Models by name."""

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
from infobatch.lab.names import choose

MODELS: dict[str, Callable[..., nn.Module]] = {"small-cnn": small_cnn, **RESNETS}

TIMM = "timm/"
"""Before the name of a model of timm's, which has to be installed."""


def make_model(
    name: str, num_channels: int, num_classes: int, stem_stride: int = 1, norm: Norm = "batch"
) -> nn.Module:
    """A freshly initialised model for images of any size, from the global generator.

    Or the encoder of a run of --task mae, for images of its size, if ``name`` is a run's folder.
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
    """Raise an error for a model that cannot be made."""
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
    """Whether a model's name is that of a folder, which a run has left."""
    if name in MODELS or name.startswith(TIMM):
        return False
    return "/" in name or (Path(name) / "config.json").is_file()


def check_model_fits(name: str, shape: Shape) -> None:
    """Raise ``ValueError`` for a model that is not for images of that shape."""
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


__all__ = ["MODELS", "TIMM", "check_model", "check_model_fits", "make_model"]
