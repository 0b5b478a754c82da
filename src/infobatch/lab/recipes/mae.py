"""Pre-training of masked autoencoders (He et al., CVPR 2022), evaluated by their features.

All of them train with the lab's one-cycle schedule: 30 % of it is warm-up, and AdamW's first beta moves
from 0.95 to 0.85 and back; the second is 0.999.
"""

from __future__ import annotations

from infobatch.lab.config.task_options import MaskedOptions
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes.base import recipe


@recipe()
def cifar10_mae_tiny() -> TrainConfig:
    """10,000 images of CIFAR-10, a masked autoencoder of 0.37 million weights, 16 epochs, batch 32.

    Four to five minutes a run on one core. It is evaluated once, by the nearest neighbors among those
    images. On a held-out part of the training set, with half the images and epochs and one seed, 2e-3 is
    the best learning rate among 1e-3, 2e-3 and 4e-3 (35.8, 37.1 and 33.5 %); an untrained encoder gets
    29 %.
    """
    return TrainConfig(
        task="mae",
        data="cifar10",
        train_samples=10_000,
        model="mae-tiny",
        epochs=16,
        batch_size=32,
        optimizer="adamw",
        lr=2e-3,
        weight_decay=0.05,
        eval_every=16,
    )


@recipe(needs_gpu=True)
def tiny_imagenet_40_mae() -> TrainConfig:
    """The first 40 classes of Tiny-ImageNet, a masked autoencoder with ViT-Ti/8, 400 epochs, batch 512.

    About ten minutes a run on one GPU. The settings are ours, and the learning rate is not tuned.
    """
    return TrainConfig(
        task="mae",
        data="tiny-imagenet-40",
        model="mae-small",
        epochs=400,
        batch_size=512,
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.05,
        eval_every=100,
        precision="bf16",
        compile=True,
    )


@recipe(needs_gpu=True)
def imagenet_mae_base() -> TrainConfig:
    """ImageNet-1K, a masked autoencoder with ViT-B/16, 800 epochs, batch 4096.

    He et al., table 8: AdamW, learning rate 1.5e-4 for each 256 images of a batch, weight decay 0.05,
    mask ratio 0.75, normalized pixels, random crops of 0.2 of an image or more, flips. What differs:
    their schedule warms up for 40 epochs and falls as a cosine, the lab's warms up for 240; their betas
    are 0.9 and 0.95, in the lab the first moves and the second is 0.999; crops are resized bilinearly,
    not bicubically; biases and norms decay, too. They evaluate by fine-tuning and by a linear probe of
    90 epochs with augmentation; here it is a linear classifier on features of unaugmented images, whose
    accuracy is lower.
    """
    return TrainConfig(
        task="mae",
        data="imagenet",
        model="mae-base",
        epochs=800,
        batch_size=4096,
        optimizer="adamw",
        lr=1.5e-4 * 4096 / 256,
        weight_decay=0.05,
        eval_every=200,
        precision="bf16",
        compile=True,
        workers=16,
        drop_last=True,
        policy="infobatch",
        mae=MaskedOptions(evaluate="linear"),
    )
