"""Experiments of minutes on a CPU, with small networks and few epochs; they reproduce nothing."""

from __future__ import annotations

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes.base import recipe


@recipe()
def mnist5k_small_cnn() -> TrainConfig:
    """5,000 MNIST digits, small CNN, 10 epochs: seconds a run."""
    return TrainConfig(data="mnist5k", model="small-cnn", epochs=10)


@recipe()
def fashion_mnist_small_cnn() -> TrainConfig:
    """Fashion-MNIST, small CNN, 15 epochs: five to ten minutes a run on one core."""
    return TrainConfig(data="fashion-mnist", model="small-cnn", epochs=15)


@recipe()
def cifar10_resnet8() -> TrainConfig:
    """CIFAR-10, ResNet-8, 16 epochs: five to ten minutes a run on one or two cores.

    In bf16 on a CPU with AVX-512 bf16 or AMX, on which it is fast; elsewhere in fp32.
    """
    return TrainConfig(data="cifar10", model="resnet8", epochs=16, precision="auto")


@recipe()
def cifar10_5k_resnet8() -> TrainConfig:
    """5,000 images of CIFAR-10, ResNet-8 with a stem of stride 2, 80 epochs: for contests.

    One to two minutes a run on one core, evaluated every 20 epochs; for the precision see
    cifar10-resnet8. On a held-out part of the training set, 0.4 is the best peak learning rate among
    0.1, 0.2, 0.4 and 0.8. Weights are divided by their mean, so that steps of pruned epochs are as large
    as on full data.
    """
    return TrainConfig(
        data="cifar10",
        train_samples=5000,
        model="resnet8",
        stem_stride=2,
        epochs=80,
        lr=0.4,
        normalizer="mean",
        eval_every=20,
        precision="auto",
    )


@recipe()
def tiny_imagenet_40_resnet8() -> TrainConfig:
    """The first 40 classes of Tiny-ImageNet, ResNet-8 with a stem of stride 2, 20 epochs.

    Three to six minutes a run on one or two cores; see cifar10-resnet8 for its precision.
    """
    return TrainConfig(
        data="tiny-imagenet-40", model="resnet8", stem_stride=2, epochs=20, precision="auto"
    )
