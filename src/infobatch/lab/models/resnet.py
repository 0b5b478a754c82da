"""Residual networks (He et al., 2016) with a stem for images of 32, 64 or 224 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from infobatch.lab.models.norms import Norm, make_norm


class _Block(nn.Module):
    """A residual block; ``expansion`` is its output channels over its width."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.body = self.make_body(inputs, width, stride, norm)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), make_norm(norm, outputs)
            )

    def make_body(self, inputs: int, width: int, stride: int, norm: Norm) -> nn.Module:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class BasicBlock(_Block):
    """Two 3x3 convolutions."""

    def make_body(self, inputs: int, width: int, stride: int, norm: Norm) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False),
            make_norm(norm, width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            make_norm(norm, width),
        )


class Bottleneck(_Block):
    """1x1, 3x3 and 1x1 convolutions; the last has four times the width."""

    expansion = 4

    def make_body(self, inputs: int, width: int, stride: int, norm: Norm) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            make_norm(norm, width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            make_norm(norm, width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 4 * width, 1, bias=False),
            make_norm(norm, 4 * width),
        )


class ResNet(nn.Module):
    """A stem, stages of residual blocks and a linear layer on the mean of the last features.

    Args:
        block: The class of the blocks.
        depths: The number of blocks of each stage.
        widths: The width of each stage's blocks, in channels.
        num_channels: The images' channels.
        num_classes: The number of logits.
        stem_stride: By what the stem shrinks the image. 1 or 2: a 3x3 convolution; 4: ImageNet's 7x7
            convolution and 3x3 pooling, of stride 2 each.
        norm: The normalization layers.
    """

    def __init__(
        self,
        block: type[_Block],
        depths: Sequence[int],
        widths: Sequence[int],
        num_channels: int,
        num_classes: int,
        stem_stride: int = 1,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        kernel, stride = (7, 2) if stem_stride == 4 else (3, stem_stride)
        self.stem = nn.Sequential(
            nn.Conv2d(num_channels, widths[0], kernel, stride, padding=kernel // 2, bias=False),
            make_norm(norm, widths[0]),
            nn.ReLU(inplace=True),
        )
        if stem_stride == 4:
            self.stem.append(nn.MaxPool2d(3, 2, padding=1))
        stages: list[nn.Module] = []
        inputs = widths[0]
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                stages.append(block(inputs, width, stride, norm))
                inputs = width * block.expansion
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        features = self.stages(self.stem(x))
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


SMALL, LARGE = (16, 32, 64), (64, 128, 256, 512)

RESNETS = {
    "resnet8": partial(ResNet, BasicBlock, (1, 1, 1), SMALL),
    "resnet20": partial(ResNet, BasicBlock, (3, 3, 3), SMALL),
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2), LARGE),
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3), LARGE),
}
"""By depth; 8 and 20 have the stages of the paper's networks for CIFAR, the others for ImageNet."""
