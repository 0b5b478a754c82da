"""Models by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from infobatch.lab.models.resnet import resnet8, resnet18, resnet20, resnet50
from infobatch.lab.models.small_cnn import small_cnn
from infobatch.lab.names import choose

MODELS: dict[str, Callable[[int, int], nn.Module]] = {
    "small-cnn": small_cnn,
    "resnet8": resnet8,
    "resnet20": resnet20,
    "resnet18": resnet18,
    "resnet50": resnet50,
}


def make_model(name: str, num_channels: int, num_classes: int) -> nn.Module:
    """A freshly initialised model for images of any size, from the global generator."""
    return choose("model", name, MODELS)(num_channels, num_classes)


__all__ = ["MODELS", "make_model"]
