"""Steps on batches that lie on the device; on CUDA one is recorded for each size and played back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.batch_norm.weights import batch_shares
from infobatch.lab.tasks.base import Task
from infobatch.lab.training.optimization import Optimization
from infobatch.losses import Normalizer, weighted_mean

WARM_UP_STEPS = 3
"""Steps before one is recorded, for what happens once: tuning of kernels, allocations."""
NO_INDICES = np.empty(0, np.int64)


@dataclass(frozen=True)
class DeviceBatch:
    """A batch's samples and weights, on the device.

    Args:
        indices: The samples, int64 (B,).
        weights: The factors of their losses, float32 (B,).
        shares: Their shares in the statistics of batch norm, which :func:`packed_shares` gives; None
            where batch norm counts them equally.
        equal: Whether these shares are equal.
    """

    indices: Tensor
    weights: Tensor
    shares: Tensor | None = None
    equal: bool = False

    @property
    def form(self) -> tuple[int, bool, bool]:
        """What a recorded step is made for."""
        return len(self.indices), self.shares is not None, self.equal

    def clone(self) -> DeviceBatch:
        shares = None if self.shares is None else self.shares.clone()
        return DeviceBatch(self.indices.clone(), self.weights.clone(), shares, self.equal)

    def copy_(self, other: DeviceBatch) -> None:
        """Take the values of a batch of the same form."""
        for field in fields(self):
            own, its = getattr(self, field.name), getattr(other, field.name)
            if isinstance(own, Tensor):
                own.copy_(its)


@dataclass(frozen=True)
class StepOutputs:
    """What a step gives.

    Args:
        mean: The batch's weighted mean loss, a scalar.
        losses: float32 (B,).
        signals: What was asked for beside the losses, by name, (B,) each.
    """

    mean: Tensor
    losses: Tensor
    signals: dict[str, Tensor]


Step = Callable[[DeviceBatch], StepOutputs]


class DeviceSteps:
    """Takes steps on batches that lie on the device, and gives their losses there.

    What a recorded step gives is overwritten by the next one. ``recording_seconds`` is the time that
    recording took.

    Args:
        task: Whose feed holds all data on the device.
        optimization: Updates its model.
        normalizer: What the weighted losses of a batch are divided by.
        signals: What is computed beside the losses.
    """

    def __init__(
        self, task: Task, optimization: Optimization, normalizer: Normalizer, signals: Sequence[str]
    ) -> None:
        self._task = task
        self._optimization = optimization
        self._normalizer = normalizer
        self._signals = tuple(signals)
        self._records = task.device.type == "cuda"
        self._pool = torch.cuda.graph_pool_handle() if self._records else None
        self._recorded: dict[tuple[int, bool, bool], Step] = {}
        self.recording_seconds = 0.0
        self._rates = [torch.zeros((), device=task.device) for _ in self._groups]

    def __call__(self, batch: DeviceBatch) -> StepOutputs:
        """Train the model on a batch, at the optimizer's present rates."""
        if not self._records:
            return self._step(batch)
        if batch.form not in self._recorded:
            torch.cuda.synchronize(self._task.device)
            began = time.perf_counter()
            with torch.cuda.device(self._task.device):
                self._recorded[batch.form] = self._record(batch)
            self.recording_seconds += time.perf_counter() - began
        return self._recorded[batch.form](batch)

    @property
    def _groups(self) -> list[dict[str, Any]]:
        return self._optimization.optimizer.param_groups

    def _step(self, batch: DeviceBatch) -> StepOutputs:
        inputs = self._task.inputs(batch.indices, NO_INDICES)
        with self._batch_norm(batch):
            outputs = self._task.train_outputs(inputs, self._signals)
        mean = weighted_mean(outputs.losses, batch.weights, self._normalizer)
        self._optimization.update(mean)
        return StepOutputs(mean.detach(), outputs.losses.detach(), dict(outputs.signals))

    def _batch_norm(self, batch: DeviceBatch) -> AbstractContextManager[None]:
        """Give batch norm the shares of a batch, where it takes any."""
        if batch.shares is None:
            return nullcontext()
        return batch_shares(self._task.model, batch.shares, batch.equal)

    # -- Recording -----------------------------------------------------------------------------------

    def _record(self, like: DeviceBatch) -> Step:
        """Record a step for batches of one form, and change nothing."""
        batch = like.clone()
        with self._undone(), torch.cuda.stream(self._side_stream()):
            for _ in range(WARM_UP_STEPS):
                self._step(batch)
            torch.cuda.current_stream().synchronize()
        graph = torch.cuda.CUDAGraph()
        with self._rates_on_device(), torch.cuda.graph(graph, pool=self._pool):
            outputs = self._step(batch)

        def play(given: DeviceBatch) -> StepOutputs:
            batch.copy_(given)
            for rate, group in zip(self._rates, self._groups, strict=True):
                rate.fill_(group["lr"])
            graph.replay()
            return outputs

        return play

    @staticmethod
    def _side_stream() -> torch.cuda.Stream:
        """A stream that begins once the current one is done; graphs are not recorded on the default."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        return stream

    @contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Let the optimizer read its rates from the device, where a played step finds new ones."""
        rates = [group["lr"] for group in self._groups]
        for group, rate in zip(self._groups, self._rates, strict=True):
            group["lr"] = rate
        yield
        for group, number in zip(self._groups, rates, strict=True):
            group["lr"] = number

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Take back on leaving what steps inside do to the model and to the optimizer's state."""
        model, states = self._task.model, self._optimization.optimizer.state
        tensors = [*model.parameters(), *model.buffers()]
        before = [tensor.clone() for tensor in tensors]
        known = {id(t): t.clone() for state in states.values() for t in _tensors(state)}
        yield
        with torch.no_grad():
            torch._foreach_copy_(tensors, before)
            for state in states.values():
                for tensor in _tensors(state):
                    if id(tensor) in known:
                        tensor.copy_(known[id(tensor)])
                    else:
                        tensor.zero_()


def _tensors(state: dict[str, Any]) -> list[Tensor]:
    return [value for value in state.values() if isinstance(value, Tensor)]
