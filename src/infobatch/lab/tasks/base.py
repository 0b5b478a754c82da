"""What the training loop asks of a task, and what all tasks have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Feed
from infobatch.lab.devices import resolve_device
from infobatch.lab.processes import replicas

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

Inputs = tuple[Tensor, ...]
"""What a forward pass takes, on the device: tensors whose first dimension is the batch's, B."""


@dataclass(frozen=True)
class Told:
    """What a forward pass tells of each sample of a batch.

    ``losses`` (B,), which are trained. ``scores`` (B,): what is remembered of a sample, by default its
    loss. ``scored``: bool (B,), whether there is anything to remember. ``signals``: what the policy asks
    for beside it.
    """

    losses: Tensor
    scores: Tensor | None = None
    scored: Tensor | None = None
    signals: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def remembered(self) -> Tensor:
        return self.losses if self.scores is None else self.scores


@dataclass(frozen=True)
class Evaluation:
    """Over the test set: ``result``, in the task's metric, and the mean ``loss``.

    ``details``: further figures by their names. ``per_class``: of each class the like of the result, and
    ``counts``: of the test samples that have it.
    """

    result: float
    loss: float
    details: Mapping[str, float] = field(default_factory=dict)
    per_class: Sequence[float] = ()
    counts: Sequence[int] = ()


class Task(ABC):
    """One model on one data set, on one device and in one precision.

    ``model``: the network itself, which is evaluated and saved. ``feed``: how the data reaches the
    device.
    """

    model: nn.Module
    feed: Feed

    def __init__(self, config: TrainConfig, data: Any) -> None:
        self.config = config
        self.device = resolve_device(config.device)
        self.data = data
        self.feed = self.make_feed()
        self._batch_size = config.batch_size // replicas().num_replicas
        self._dtype = DTYPES.get(config.precision)
        torch.manual_seed(config.seed)
        model = self.make_model()
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._train_model = self._prepare(config.compile)

    # -- What a task is ----------------------------------------------------------------------------

    @abstractmethod
    def make_feed(self) -> Feed:
        """How its data reaches the device."""

    @abstractmethod
    def make_model(self) -> nn.Module:
        """A freshly initialised model, from the global generator."""

    @abstractmethod
    def inputs(self, batch: Any, samples: np.ndarray) -> Inputs:
        """What the model takes, augmented, of a batch as the loader gives it.

        ``samples`` (B,): which they are; negative for repeats that fill a batch.
        """

    @abstractmethod
    def forward(self, model: nn.Module, inputs: Inputs) -> Any:
        """What ``model`` makes of them, under autocast where the precision asks for it."""

    @abstractmethod
    def told(self, outputs: Any, inputs: Inputs, signals: Sequence[str]) -> Told:
        """Losses in float32, of what :meth:`forward` made, and those ``signals`` that are asked for."""

    @abstractmethod
    def evaluate(self, model: nn.Module | None = None) -> Evaluation:
        """Evaluate the model, or an average of its weights; over all processes together."""

    # -- What a task may have ----------------------------------------------------------------------

    @classmethod  # noqa: B027 - most need none
    def check(cls, config: TrainConfig, data: Any) -> None:
        """Raise an error for options that do not fit the data, or for what is missing to train."""

    def picture(self) -> Tensor | None:
        """What there is to look at in the model: uint8 (C, H, W), grey or coloured."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What it keeps from step to step beside the model, on the host. Call it on every process."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Go on where :meth:`state_dict` was taken."""

    # -- What the training loop asks of it ---------------------------------------------------------

    def begin(self, epoch: int) -> None:
        """Decide the epoch's augmentation."""
        self.feed.begin(epoch)

    def tell(self, inputs: Inputs, signals: Sequence[str] = ()) -> Told:
        """What a training step is told of its batch."""
        return self.told(self._training_outputs(inputs), inputs, signals)

    @torch.no_grad()
    def look(self, inputs: Inputs, signals: Sequence[str] = ()) -> Told:
        """The same of the model in evaluation mode, from a forward pass alone."""
        self.model.eval()
        outputs = self._forward(self.model, inputs)
        self.model.train()
        return self.told(outputs, inputs, signals)

    def losses(self, batch: Any, samples: np.ndarray) -> Tensor:
        """The losses (B,) of a batch as the loader gives it. See :meth:`inputs`."""
        return self.tell(self.inputs(batch, samples)).losses

    def gradients(self, samples: np.ndarray) -> Iterable[Sequence[Tensor]]:
        """The true gradients of ``samples`` (n,), chunk by chunk: in each parameter (c, *shape)."""
        raise NotImplementedError(f"{type(self).__name__} has no gradients of single samples")

    def autocast(self) -> torch.autocast:
        """What the precision asks for, around a forward pass."""
        return torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None)

    @contextmanager
    def on_a_copy(self) -> Iterator[None]:
        """What is trained inside leaves weights and statistics as they were."""
        weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        state = self.state_dict()
        yield
        self.model.load_state_dict(weights)
        self.load_state_dict(state)

    # -- Inside ------------------------------------------------------------------------------------

    def _training_outputs(self, inputs: Inputs) -> Any:
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        whole = len(inputs[0]) == self._batch_size
        return self._forward(self._train_model if whole else self._uncompiled, inputs)

    def _forward(self, model: nn.Module, inputs: Inputs) -> Any:
        with self.autocast():
            return self.forward(model, inputs)

    def _prepare(self, compiled: bool) -> nn.Module:
        """The model as it is trained; the last short batch of an epoch runs uncompiled."""
        model = self.model
        self._uncompiled = model
        if replicas().num_replicas > 1:
            devices = None
            if self.device.type == "cuda":
                devices = [torch.cuda.current_device()]
                model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
                self.model = model
            self._uncompiled = model = DistributedDataParallel(model, device_ids=devices)
        self._graphs = compiled and self.device.type == "cuda" and replicas().num_replicas == 1
        if compiled:
            torch.compiler.reset()  # earlier runs of this process count against a limit
            mode = "reduce-overhead" if self._graphs else "default"
            model = torch.compile(model, dynamic=False, mode=mode)  # type: ignore[assignment]
        return model


def indices_on(device: torch.device, samples: np.ndarray) -> Tensor:
    """Which samples they are, int64 (B,), repeats that fill a batch among them; no one waits for it."""
    indices = torch.from_numpy(np.where(samples < 0, ~samples, samples))
    if device.type == "cuda":
        indices = indices.pin_memory()
    return indices.to(device, non_blocking=True)
