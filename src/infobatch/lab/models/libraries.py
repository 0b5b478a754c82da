"""Classifiers of timm and of transformers, with new or with trained weights."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from infobatch.lab.functions import reason_of
from infobatch.lab.models.masked import Shape
from infobatch.lab.models.packages import import_for

TIMM = "timm/"
"""What the names of timm's models begin with; the package has to be installed."""
TRANSFORMERS = "transformers/"
"""What the names of transformers' models begin with: a name on the hub, or a folder, follows."""


class Logits(nn.Module):
    """A classifier of transformers as a network that gives logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


def is_of_a_library(name: str) -> bool:
    """Whether a model's name is one of timm's or of transformers'."""
    return name.startswith((TIMM, TRANSFORMERS))


def make_of_a_library(name: str, shape: Shape, num_classes: int, pretrained: bool) -> nn.Module:
    """Make a classifier of a library.

    Args:
        name: See :func:`is_of_a_library`.
        shape: Channels, height and width of the images.
        num_classes: The number of logits.
        pretrained: Whether all weights but the last layer's are the library's trained ones.

    Raises:
        ValueError: If there is no such model, or its weights cannot be had.
        ImportError: If the library cannot be imported.
    """
    if name.startswith(TIMM):
        with _refusing(name, pretrained):
            model: nn.Module = _timm().create_model(
                name.removeprefix(TIMM),
                pretrained=pretrained,
                in_chans=shape[0],
                num_classes=num_classes,
            )
        return model
    transformers, place = _transformers(), name.removeprefix(TRANSFORMERS)
    classifier = transformers.AutoModelForImageClassification
    with _refusing(name, pretrained):
        if pretrained:
            return Logits(
                classifier.from_pretrained(place, num_labels=num_classes, ignore_mismatched_sizes=True)
            )
        config = transformers.AutoConfig.from_pretrained(place, num_labels=num_classes)
        for option, value in (("num_channels", shape[0]), ("image_size", shape[1])):
            if hasattr(config, option):
                setattr(config, option, value)
        return Logits(classifier.from_config(config))


def check_of_a_library(name: str, pretrained: bool) -> None:
    """Refuse a model that its library does not have, as far as can be said without a download.

    Args:
        name: See :func:`is_of_a_library`.
        pretrained: Whether it is to have trained weights.

    Raises:
        ValueError: If there is no such model, or there are no trained weights of it.
        ImportError: If the library cannot be imported.
    """
    if name.startswith(TRANSFORMERS):
        _transformers()
        return
    timm, own = _timm(), name.removeprefix(TIMM)
    if ":" in own:  # from a hub or a folder
        return
    if not timm.is_model(own):
        near = difflib.get_close_matches(own, timm.list_models(), n=3, cutoff=0.5)
        ask = f"did you mean {' or '.join(TIMM + each for each in near)}?" if near else "check the name"
        raise ValueError(f"timm has no model {own!r}; {ask}")
    if pretrained and not timm.is_model_pretrained(own):
        raise ValueError(f"timm has no trained weights of {own}; leave --pretrained out")


@contextmanager
def _refusing(name: str, pretrained: bool) -> Iterator[None]:
    """Say in one line why a library cannot make a model."""
    try:
        yield
    except Exception as error:  # of many types, and of packages below
        what = "a trained" if pretrained else "a new"
        raise ValueError(
            f"--model is {name}, and {what} model of that name cannot be made ({reason_of(error)}); "
            "check the name, the connection and what is in your cache"
        ) from error


def _transformers() -> Any:
    return import_for(f"a model named {TRANSFORMERS}NAME", "transformers")


def _timm() -> Any:
    try:
        import timm
    except Exception as error:  # timm may be there and its torchvision not fit this PyTorch
        raise ImportError(
            f"models named {TIMM}NAME need timm and torchvision, and importing them failed "
            f"({type(error).__name__}: {error}): pip install timm"
        ) from error
    return timm
