"""The table of the lab's random streams: what each random number of a run is drawn for.

A stream is a number that, with a seed and an epoch, names one generator: see
:func:`infobatch.seeding.epoch_generator`. Streams of one (seed, epoch) are independent. The library's
own streams are small numbers, so that the lab's, which begin at 1 << 16, never repeat them.
"""

from __future__ import annotations

from enum import IntEnum


class Stream(IntEnum):
    """What the lab draws random numbers for."""

    AUGMENTATION = 1 << 16  # crops and flips of the training images
    MIXING = (1 << 16) + 1  # shares and boxes of mixup and cutmix
    SELECTIVE_BACKPROP = (1 << 16) + 2  # which samples of a batch are trained
    MASKS = (1 << 16) + 8  # masked patches of masked autoencoders
    SCORING_NETWORKS = 1 << 17  # the seeds of networks trained to score samples
    NOISE_PROBE = 1 << 18  # the samples of --probe; the numbers that follow are those of its draws
    DIFFUSION = 1 << 20  # timesteps and noise of training images
    DIFFUSION_TEST = (1 << 20) + 1  # timesteps and noise of test images
    DIFFUSION_SAMPLING = (1 << 20) + 2  # the noise that images are generated from
