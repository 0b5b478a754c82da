"""ImageNet-1K at 224x224 pixels, streamed through loader processes."""

from __future__ import annotations

from dataclasses import replace

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes import published
from infobatch.lab.recipes.base import recipe

BASE = TrainConfig(
    data="imagenet",
    model="resnet50",
    stem_stride=4,
    epochs=90,
    batch_size=1024,
    label_smoothing=0.1,
    precision="bf16",
    compile=True,
    workers=16,
    drop_last=True,
    policy="infobatch",
)


@recipe(needs_gpu=True, published=published.IMAGENET_RESNET50)
def imagenet_resnet50_lars() -> TrainConfig:
    """ImageNet-1K, ResNet-50, LARS with peak learning rate 6.4, 90 epochs, batch 1024.

    The settings are the paper's. Losses are divided by the sum of the batch's weights, since LARS
    cancels a common factor of the gradient.
    """
    return replace(BASE, optimizer="lars", lr=6.4, weight_decay=1e-5, normalizer="weights")


@recipe(needs_gpu=True, published=published.IMAGENET_RESNET50)
def imagenet_resnet50_sgd() -> TrainConfig:
    """ImageNet-1K, ResNet-50, SGD, 90 epochs, batch 1024.

    Peak learning rate 0.4 and weight decay 1e-4 are the customary 0.1 for each 256 images of a batch
    (Goyal et al., 2017); the paper gives settings for LARS alone.
    """
    return replace(BASE, optimizer="sgd", lr=0.4, weight_decay=1e-4)


@recipe(needs_gpu=True)
def imagenet_resnet18_lamb() -> TrainConfig:
    """ImageNet-1K, ResNet-18, LAMB, 90 epochs, batch 1024.

    The paper names LAMB without its settings: peak learning rate 0.005 and weight decay 0.02 are ours.
    """
    return replace(
        BASE, model="resnet18", optimizer="lamb", lr=0.005, weight_decay=0.02, normalizer="weights"
    )
