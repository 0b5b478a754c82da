"""Selective backprop: every sample has a forward pass, and those that are trained are drawn by it.

Jiang et al., *Accelerating Deep Learning by Focusing on the Biggest Losers* (2019), as MosaicML's
Composer has it: a fixed share of each batch, by percentiles within the batch, without weights.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from infobatch.lab.data.augment import MIXING_STREAM
from infobatch.seeding import epoch_generator

DRAW_STREAM = MIXING_STREAM + 1


class SelectiveBackprop:
    """Says which samples of a batch are trained.

    ``share``: of all samples, in (0, 1), met to a sample over successive epochs of ``num_samples``. What
    is drawn depends on (seed, epoch, index) and the losses alone.
    """

    def __init__(self, share: float, num_samples: int, batch_size: int, seed: int) -> None:
        self._share = share
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._seed = seed

    def begin(self, epoch: int, device: torch.device) -> None:
        """Make the epoch's random numbers."""
        self._epoch = epoch
        generator = epoch_generator(self._seed, epoch, DRAW_STREAM)
        self._uniform = torch.rand(self._num_samples, generator=generator).to(device)

    def choose(self, losses: Tensor, samples: np.ndarray, num_before: int) -> Tensor:
        """Which of a batch are trained, int64 (k,), where the losses are.

        ``losses`` (B,) of the samples ``samples`` (B,); ``num_before``: the samples of the epoch that
        came in earlier batches.
        """
        indices = torch.from_numpy(samples)
        if losses.is_cuda:
            indices = indices.pin_memory()
        uniform = self._uniform[indices.to(losses.device, non_blocking=True)]
        num = self._num_chosen(self._epoch, num_before, len(losses))
        return draw_by_percentile(losses, num, self._share, uniform)

    def num_trained(self, epoch: int, num_samples: int) -> int:
        """How many of an epoch's ``num_samples`` are trained."""
        starts = range(0, num_samples, self._batch_size)
        sizes = [min(self._batch_size, num_samples - start) for start in starts]
        return sum(self._num_chosen(epoch, *batch) for batch in zip(starts, sizes, strict=True))

    def _num_chosen(self, epoch: int, num_before: int, size: int) -> int:
        start = epoch * self._num_samples + num_before
        return max(1, round(self._share * (start + size)) - round(self._share * start))


def draw_by_percentile(losses: Tensor, num: int, share: float, uniform: Tensor) -> Tensor:
    """``num`` of the samples with ``losses`` (B,), drawn one after another without replacement.

    Each with a chance proportional to u^(1 / share - 1), u in (0, 1] its percentile in the batch.
    ``uniform`` (B,): random numbers in [0, 1). The highest of log p + Gumbel noise are such a draw.
    """
    percentiles = (losses.argsort().argsort() + 1) / len(losses)
    chances = (1 / share - 1) * percentiles.log()
    noise = -(-uniform.log()).log()
    return (chances + noise).topk(num).indices
