"""Semantic segmentation: CamVid on a CPU, and ADE20K as in the paper."""

from __future__ import annotations

from infobatch.lab.config.task_options import SegmentationOptions
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes.base import recipe


def _camvid(model: str, lr: float) -> TrainConfig:
    """The settings that both networks share."""
    return TrainConfig(
        task="segmentation",
        data="camvid",
        model=model,
        epochs=40,
        batch_size=8,
        optimizer="adamw",
        lr=lr,
        weight_decay=0.01,
        label_smoothing=0.0,
        eval_every=10,
        segmentation=SegmentationOptions(crop=128),
    )


@recipe()
def camvid_segformer() -> TrainConfig:
    """CamVid at 240x180 pixels, a SegFormer of 0.5 million weights from scratch, 40 epochs, batch 8.

    Four to five minutes a run on one core. It reproduces nothing: published figures are of networks
    pretrained on ImageNet, and of larger images. In runs of 10 epochs, on a held-out part of the
    training set, peak learning rates of 0.001, 0.003 and 0.01 gave 19.4, 19.1 and 18.2 % mIoU.
    """
    return _camvid("segformer-tiny", lr=1e-3)


@recipe()
def camvid_upernet() -> TrainConfig:
    """CamVid at 240x180 pixels, a UPerNet of 0.5 million weights from scratch, 40 epochs, batch 8.

    Three to four minutes a run on one core. Chosen as for camvid-segformer: peak learning rates of
    0.001, 0.003 and 0.01 gave 25.3, 27.3 and 23.9 % mIoU.
    """
    return _camvid("upernet-tiny", lr=3e-3)


@recipe(needs_gpu=True)
def ade20k_upernet_resnet50() -> TrainConfig:
    """ADE20K, UPerNet with a pretrained ResNet-50, 160,000 steps of 16 crops of 512 pixels, SGD.

    The paper prunes by percentile tiers with delta 0.875, and names UPerNet, ResNet-50 and 512 pixels;
    the rest is mmsegmentation's (upernet_r50_4xb4-160k_ade20k-512x512): learning rate 0.01, weight decay
    5e-4, scales 0.5 to 2, no crop of which one class fills more than three quarters, and an auxiliary
    head with weight 0.4. It differs in a one-cycle schedule (theirs falls by a power of 0.9), an encoder
    whose stem is one convolution (theirs has three), no photometric distortion and no dropout. 160,000
    steps are 126.7 epochs of 20,210 images without the last short batch.
    """
    return TrainConfig(
        task="segmentation",
        data="ade20k",
        model="upernet-resnet50",
        epochs=126.7,
        batch_size=16,
        optimizer="sgd",
        lr=0.01,
        weight_decay=5e-4,
        label_smoothing=0.0,
        policy="percentile-tiers",
        delta=0.875,
        drop_last=True,
        eval_every=13,
        precision="bf16",
        compile=True,
        workers=16,
        segmentation=SegmentationOptions(crop=512, largest_class=0.75, encoder="microsoft/resnet-50"),
    )
