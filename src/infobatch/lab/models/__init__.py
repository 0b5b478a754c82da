"""The lab's models by name.

``make_model`` makes classifiers: small ones (``MODELS``), those of timm and transformers
(``libraries``), those that a function of the user's makes (``own``), and the encoder of a finished run
of --task mae (``pretrained``). The models of other tasks have modules of their own: ``masked`` (mae),
``unets`` (diffusion), ``segmentation`` and ``language`` (tuning).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infobatch.lab.functions import is_function, load_function
from infobatch.lab.models.libraries import check_of_a_library, is_of_a_library, make_of_a_library
from infobatch.lab.models.masked import Shape
from infobatch.lab.models.norms import Norm
from infobatch.lab.models.own import check_gives_logits, make_own
from infobatch.lab.models.pretrained import check_pretrained, check_pretrained_fits, make_pretrained
from infobatch.lab.models.resnet import RESNETS
from infobatch.lab.models.small_cnn import small_cnn
from infobatch.lab.models.speed_cnn import SMALLEST_IMAGE, SPEED_CNNS, SpeedCNN
from infobatch.lab.names import choose

MODELS: dict[str, Callable[..., nn.Module]] = {"small-cnn": small_cnn, **RESNETS, **SPEED_CNNS}


def make_model(
    name: str,
    shape: Shape,
    num_classes: int,
    stem_stride: int = 1,
    norm: Norm = "batch",
    pretrained: bool = False,
) -> nn.Module:
    """Make a classifier, its new weights drawn from PyTorch's global generator.

    Args:
        name: One of :data:`MODELS`, the name of a model of timm after ``timm/`` or of transformers after
            ``transformers/``, a function of the user's (see :func:`make_own`), or the folder of a
            finished run of --task mae, whose encoder then gets a new last layer.
        shape: Channels, height and width of the images.
        num_classes: The number of logits.
        stem_stride: By what a ResNet's stem shrinks the image: 1, 2 or 4.
        norm: The normalization layers of :data:`MODELS`.
        pretrained: Whether a model of timm or transformers has trained weights.

    Returns:
        A module that takes images, float (B, C, H, W), and gives logits (B, num_classes).

    Raises:
        ValueError: If there is no model of that name, or it cannot be made.
        ImportError: If a library is asked for and cannot be imported.
    """
    if is_of_a_library(name):
        return make_of_a_library(name, shape, num_classes, pretrained)
    if is_own(name):
        return make_own(name, shape, num_classes)
    if is_run(name):
        return make_pretrained(name, num_classes)
    options: dict[str, Any] = {"norm": norm}
    if name in RESNETS:
        options["stem_stride"] = stem_stride
    return choose("model", name, MODELS)(shape[0], num_classes, **options)


def check_model(name: str, stem_stride: int, norm: Norm, pretrained: bool = False) -> None:
    """Refuse a model that cannot be made, and options that it does not have.

    Args:
        name: See :func:`make_model`.
        stem_stride: See :func:`make_model`.
        norm: See :func:`make_model`.
        pretrained: See :func:`make_model`.

    Raises:
        ValueError: If there is no such model, or an option is not the model's.
        ImportError: If a library is asked for and cannot be imported.
    """
    if is_of_a_library(name):
        check_of_a_library(name, pretrained)
    elif is_own(name):
        load_function(name)
    elif is_run(name):
        check_pretrained(name)
    else:
        choose("model", name, MODELS)
    if stem_stride != 1 and name not in RESNETS:
        raise ValueError(f"--stem-stride is {stem_stride}, but {name} has no such stem; leave it out")
    if norm != "batch" and name not in MODELS:
        raise ValueError(f"--norm is {norm}, but {name} comes with its own; leave it out")
    if pretrained and not is_of_a_library(name):
        raise ValueError(
            f"--pretrained is for models of timm and transformers, and --model is {name}; leave it out"
        )


def is_own(name: str) -> bool:
    """Whether a model's name is a function of the user's."""
    return is_function(name) and not is_of_a_library(name) and not Path(name).is_dir()


def is_run(name: str) -> bool:
    """Whether a model's name is the folder of a run."""
    if name in MODELS or is_of_a_library(name) or is_own(name):
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


def try_model(
    name: str, shape: Shape, num_classes: int, device: torch.device, pretrained: bool = False
) -> None:
    """Try a model that is not the lab's on a batch.

    Args:
        name: See :func:`make_model`.
        shape: Channels, height and width of the data's images.
        num_classes: The number of logits.
        device: Where it is going to be trained.
        pretrained: See :func:`make_model`.

    Raises:
        ValueError: If it cannot be made, fails, or gives no logits of the classes.
    """
    if is_own(name) or is_of_a_library(name):
        with torch.random.fork_rng():
            model = make_model(name, shape, num_classes, pretrained=pretrained)
            check_gives_logits(model, name, shape, num_classes, device)


__all__ = [
    "MODELS",
    "SpeedCNN",
    "check_model",
    "check_model_fits",
    "is_own",
    "make_model",
    "try_model",
]
