"""Training where the data lies: an epoch's order and weights go to the device once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from infobatch import DynamicPruner
from infobatch.batch_norm.weights import packed_shares
from infobatch.lab.training.device_steps import DeviceBatch, DeviceSteps
from infobatch.lab.training.epoch_loop import make_loader
from infobatch.lab.training.loop import Loop
from infobatch.losses import sent_to_device
from infobatch.scores.columns import IndexArray


class DeviceEpochs:
    """The batches of the epoch under way, sent to the device at once.

    Args:
        pruner: Whose epochs they are of.
        batches: The indices of each batch that is left of the epoch.
        device: Where they are sent.
        weighs: Whether batch norm counts the samples of the epoch with their weights.
    """

    def __init__(
        self,
        pruner: DynamicPruner,
        batches: Iterable[list[int]],
        device: torch.device,
        weighs: Callable[[], bool],
    ) -> None:
        self._pruner = pruner
        self._batches = batches
        self._device = device
        self._weighs = weighs

    def __iter__(self) -> Iterator[tuple[IndexArray, DeviceBatch]]:
        batches = [np.asarray(batch) for batch in self._batches]
        if not batches:
            return
        sizes = [len(batch) for batch in batches]
        indices = self._sent([torch.from_numpy(batch) for batch in batches])
        weights = self._sent([torch.from_numpy(self._pruner.factors(batch)) for batch in batches])
        shares, equal = self._shares(batches)
        parts = zip(_split(indices, sizes), _split(weights, sizes), shares, equal, strict=True)
        for batch, part in zip(batches, parts, strict=True):
            yield batch, DeviceBatch(*part)

    def _shares(self, batches: Sequence[IndexArray]) -> tuple[Sequence[Tensor | None], Sequence[bool]]:
        """What batch norm is given of each batch."""
        if not self._weighs():
            return [None] * len(batches), [False] * len(batches)
        packed, equal = zip(
            *(packed_shares(self._pruner.weights(batch)) for batch in batches), strict=True
        )
        single = [shares.float() for shares in packed]  # float64 is slow on a device, or not there
        return _split(self._sent(single), [len(shares) for shares in packed]), equal

    def _sent(self, parts: Sequence[Tensor]) -> Tensor:
        return sent_to_device(torch.cat(list(parts)), self._device)


def _split(values: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    parts: Sequence[Tensor] = values.split(sizes)  # type: ignore[no-untyped-call]
    return parts


class ResidentLoop(Loop):
    """The loop of a run whose data lies on the device: its numbers, with less on the way to it."""

    @cached_property
    def _steps(self) -> DeviceSteps:
        torch.backends.cudnn.benchmark = True  # batches have few sizes
        normalizer, signals = self.config.normalizer, self.signals
        return DeviceSteps(self.task, self.optimization, normalizer, signals)

    def make_loader(self) -> DeviceEpochs:
        batches = make_loader(self.config, self.task, self.pruner).batch_sampler
        assert batches is not None
        return DeviceEpochs(self.pruner, batches, self.task.device, lambda: self._weighs)

    def _step(self, indices: IndexArray, batch: DeviceBatch) -> None:
        already = self._steps.recording_seconds
        outputs = self._steps(batch)
        self._count_seconds(already - self._steps.recording_seconds)  # on no run's clock
        self.pruner.record(outputs.losses, indices, **outputs.signals)
        self.lr = self.optimization.lr
        self.optimization.advance()
        self._count(self.pruner.shown(outputs.mean), len(indices))
