"""Diffusion models of images: a U-Net predicts the noise (Ho et al., NeurIPS 2020)."""

from __future__ import annotations

from infobatch.lab.config.task_options import DiffusionOptions
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes.base import recipe


@recipe()
def mnist5k_ddpm() -> TrainConfig:
    """5,000 MNIST digits, a small U-Net, 10 epochs, batch 32: three to six minutes a run on one core.

    The settings are ours. In short runs, on a held-out part of the training set, 0.004 is the best peak
    learning rate among 0.001, 0.002, 0.004 and 0.008. Weights are divided by their mean, so that
    gradients are clipped at the size that they have on full data. Each test digit is evaluated at four
    timesteps.
    """
    return TrainConfig(
        task="diffusion",
        data="mnist5k",
        model="unet-tiny",
        epochs=10,
        batch_size=32,
        optimizer="adamw",
        lr=4e-3,
        weight_decay=0.0,
        clip_norm=1.0,
        normalizer="mean",
        eval_every=5,
        diffusion=DiffusionOptions(test_draws=4),
    )


@recipe(needs_gpu=True)
def cifar10_ddpm() -> TrainConfig:
    """CIFAR-10, the U-Net of Ho et al. (2020), 800,000 steps of batch 128.

    The settings are those of their appendix B: learning rate 2e-4, dropout 0.1, averaged weights with
    decay 0.9999, flips, 1,000 timesteps with linear noise; gradients are clipped at 1, as in their code.
    Their learning rate is constant after 5,000 steps; here it is the peak of the one-cycle schedule.
    800,000 steps are 2,048 epochs. Precision bf16 is ours. The pruning paper trains latent diffusion
    models, which is another task; its delta, 0.825, is used here. Give --diffusion.features to measure
    the FID.
    """
    return TrainConfig(
        task="diffusion",
        data="cifar10",
        model="ddpm-cifar10",
        epochs=2048,
        batch_size=128,
        policy="infobatch",
        delta=0.825,
        optimizer="adamw",
        lr=2e-4,
        weight_decay=0.0,
        clip_norm=1.0,
        ema_decay=0.9999,
        normalizer="mean",
        eval_every=128,
        precision="bf16",
        compile=True,
        diffusion=DiffusionOptions(dropout=0.1, num_generated=50_000),
    )
