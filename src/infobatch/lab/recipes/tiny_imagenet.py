"""Tiny-ImageNet: 200 classes, 64x64 pixels."""

from __future__ import annotations

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes.base import recipe


def _tiny_imagenet(model: str) -> TrainConfig:
    """The settings that both networks share."""
    return TrainConfig(
        data="tiny-imagenet",
        model=model,
        epochs=90,
        batch_size=128,
        optimizer="sgd",
        lr=0.1,
        weight_decay=5e-4,
        label_smoothing=0.1,
        precision="bf16",
        compile=True,
    )


@recipe(needs_gpu=True)
def tiny_imagenet_resnet18() -> TrainConfig:
    """Tiny-ImageNet, ResNet-18, 90 epochs, batch 128.

    The paper reports lossless training with 30 % saved and gives no settings. These are ours, with a
    3x3 stem of stride 1 and a peak learning rate of 0.1.
    """
    return _tiny_imagenet("resnet18")


@recipe(needs_gpu=True)
def tiny_imagenet_resnet50() -> TrainConfig:
    """Tiny-ImageNet, ResNet-50, 90 epochs, batch 128.

    The settings are ours: see tiny-imagenet-resnet18.
    """
    return _tiny_imagenet("resnet50")
