"""Residual networks for 32x32 images (He et al., 2016), with a 3x3 stem and no first pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class _Block(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.body = self.make_body(inputs, width, stride)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def make_body(self, inputs: int, width: int, stride: int) -> nn.Module:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class BasicBlock(_Block):
    """Two 3x3 convolutions."""

    def make_body(self, inputs: int, width: int, stride: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )


class Bottleneck(_Block):
    """1x1, 3x3 and 1x1 convolutions; the last has four times the width."""

    expansion = 4

    def make_body(self, inputs: int, width: int, stride: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 4 * width, 1, bias=False),
            nn.BatchNorm2d(4 * width),
        )


class ResNet(nn.Module):
    """``depths``: the number of blocks of each stage; ``widths``: their channels."""

    def __init__(
        self,
        block: type[_Block],
        depths: Sequence[int],
        widths: Sequence[int],
        num_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(num_channels, widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        stages: list[nn.Module] = []
        inputs = widths[0]
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                stages.append(block(inputs, width, stride))
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


def resnet8(num_channels: int, num_classes: int) -> nn.Module:
    return ResNet(BasicBlock, (1, 1, 1), (16, 32, 64), num_channels, num_classes)


def resnet20(num_channels: int, num_classes: int) -> nn.Module:
    return ResNet(BasicBlock, (3, 3, 3), (16, 32, 64), num_channels, num_classes)


def resnet18(num_channels: int, num_classes: int) -> nn.Module:
    return ResNet(BasicBlock, (2, 2, 2, 2), (64, 128, 256, 512), num_channels, num_classes)


def resnet50(num_channels: int, num_classes: int) -> nn.Module:
    return ResNet(Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), num_channels, num_classes)
