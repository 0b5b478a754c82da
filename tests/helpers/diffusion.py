"""A tiny UNet that denoises digits, and features of images to judge it by."""

from dataclasses import replace

import torch

from infobatch.lab.config.task_options import DiffusionOptions
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import load_data

OPTIONS = DiffusionOptions(timesteps=100, sampling_steps=4)

QUICK = TrainConfig(
    task="diffusion",
    data="digits",
    train_samples=80,
    model="unet-tiny",
    epochs=4,
    batch_size=16,
    optimizer="adamw",
    lr=0.002,
    weight_decay=0.0,
    device="cpu",
    diffusion=OPTIONS,
)


def with_options(**options):
    return replace(QUICK, diffusion=replace(OPTIONS, **options))


def few_digits():
    """Of digits 80 images to train on, and 40 to test on."""
    return load_data("digits").subset(torch.arange(80), torch.arange(80, 120))


class Means(torch.nn.Module):
    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        means = images.float().flatten(2).mean(2)
        return means if return_features else means.softmax(1)
