"""A small convolutional network for small gray images."""

from __future__ import annotations

from torch import nn

from infobatch.lab.models.norms import Norm, make_norm


def small_cnn(num_channels: int, num_classes: int, norm: Norm = "batch") -> nn.Module:
    """Three normalized 3x3 convolutions (16, 32, 64 channels), 24 thousand parameters."""
    return nn.Sequential(
        *_stage(num_channels, 16, norm),
        nn.MaxPool2d(2),
        *_stage(16, 32, norm),
        nn.MaxPool2d(2),
        *_stage(32, 64, norm),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


def _stage(inputs: int, outputs: int, norm: Norm) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        make_norm(norm, outputs),
        nn.ReLU(inplace=True),
    ]
