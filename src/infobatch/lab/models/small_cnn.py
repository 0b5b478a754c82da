"""A small convolutional network for small grey images."""

from __future__ import annotations

from torch import nn


def small_cnn(num_channels: int, num_classes: int) -> nn.Module:
    """Three 3x3 convolutions with batch norm (16, 32, 64 channels), 24 thousand parameters."""
    return nn.Sequential(
        *_stage(num_channels, 16),
        nn.MaxPool2d(2),
        *_stage(16, 32),
        nn.MaxPool2d(2),
        *_stage(32, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


def _stage(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]
