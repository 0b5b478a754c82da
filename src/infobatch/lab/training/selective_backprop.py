"""Selective backprop: every sample has a forward pass, and its loss decides the chance to be trained.

A fixed share of each batch is trained, drawn by percentiles within the batch, without weights. Source:
Jiang et al., *Accelerating Deep Learning by Focusing on the Biggest Losers* (2019), as MosaicML's
Composer has it.

Proxy filtering has the losses of a smaller network, and takes the highest of each batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infobatch.lab.random_streams import Stream
from infobatch.scores.columns import IndexArray
from infobatch.seeding import epoch_generator


class SelectiveBackprop:
    """Chooses the samples of a batch that are trained, by (seed, epoch, index) and the losses alone.

    Args:
        share: The share of all samples to train, in (0, 1), met to a sample over successive epochs.
        num_samples: N, the samples of an epoch.
        batch_size: The samples of a batch.
        seed: The run's seed.
        takes_highest: Whether the highest losses are taken; by default samples are drawn.
    """

    def __init__(
        self, share: float, num_samples: int, batch_size: int, seed: int, takes_highest: bool = False
    ) -> None:
        self._takes_highest = takes_highest
        self._share = share
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._seed = seed

    def begin(self, epoch: int, device: torch.device) -> None:
        """Draw the epoch's random numbers.

        Args:
            epoch: The epoch's number.
            device: Where the losses will be.
        """
        self._epoch = epoch
        generator = epoch_generator(self._seed, epoch, Stream.SELECTIVE_BACKPROP)
        self._uniform = torch.rand(self._num_samples, generator=generator).to(device)

    def choose(self, losses: Tensor, indices: IndexArray, num_before: int) -> Tensor:
        """Choose the samples of a batch that are trained.

        Args:
            losses: The batch's losses, (B,).
            indices: Which samples these are, int64 (B,).
            num_before: The samples of the epoch that came in earlier batches.

        Returns:
            Places in the batch, int64 (k,), where the losses are.
        """
        num = self._num_chosen(self._epoch, num_before, len(losses))
        if self._takes_highest:
            return losses.topk(num).indices
        places = torch.from_numpy(indices)
        if losses.is_cuda:
            places = places.pin_memory()
        uniform = self._uniform[places.to(losses.device, non_blocking=True)]
        return draw_by_percentile(losses, num, self._share, uniform)

    def num_trained(self, epoch: int, num_samples: int) -> int:
        """Count the samples that an epoch trains.

        Args:
            epoch: The epoch's number.
            num_samples: The samples that come in its batches.

        Returns:
            How many of them are trained.
        """
        starts = range(0, num_samples, self._batch_size)
        sizes = [min(self._batch_size, num_samples - start) for start in starts]
        return sum(self._num_chosen(epoch, *batch) for batch in zip(starts, sizes, strict=True))

    def _num_chosen(self, epoch: int, num_before: int, size: int) -> int:
        """How many are trained of a batch, at least 1."""
        start = epoch * self._num_samples + num_before
        return max(1, round(self._share * (start + size)) - round(self._share * start))


def draw_by_percentile(losses: Tensor, num: int, share: float, uniform: Tensor) -> Tensor:
    """Draw samples one after another without replacement, with high losses more often.

    A sample's chance is proportional to u^(1 / share - 1), where u in (0, 1] is its percentile in the
    batch. Taking the highest of log p + Gumbel noise is such a draw.

    Args:
        losses: The batch's losses, (B,).
        num: How many to draw.
        share: The share of the samples to train, in (0, 1).
        uniform: Random numbers in [0, 1), (B,).

    Returns:
        Places in the batch, int64 (num,).
    """
    percentiles = (losses.argsort().argsort() + 1) / len(losses)
    chances = (1 / share - 1) * percentiles.log()
    noise = -(-uniform.log()).log()
    return (chances + noise).topk(num).indices
