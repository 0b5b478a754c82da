"""What the training loop asks of a task, and what all tasks have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from infobatch import weigh_batch_norm
from infobatch.lab.config.shrinking import shrinks_batches
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Feed
from infobatch.lab.devices import resolve_device, resolve_precision
from infobatch.lab.processes import replicas
from infobatch.lab.tasks.metrics import Metric

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

Inputs = tuple[Tensor, ...]
"""What a forward pass takes, on the device: tensors whose first dimension is the batch's, B."""


@dataclass(frozen=True)
class SampleOutputs:
    """What a forward pass gives for each sample of a batch.

    Args:
        losses: The losses to train on, float32 (B,).
        scores: The scores to record, float32 (B,); None where they are the losses.
        scored: Whether a sample has a score to record, bool (B,); None where all have.
        signals: What was asked for beside the losses, by name, (B,) each.
    """

    losses: Tensor
    scores: Tensor | None = None
    scored: Tensor | None = None
    signals: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def recorded(self) -> Tensor:
        """The scores to record, (B,): the losses, where there are no others."""
        return self.losses if self.scores is None else self.scores


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth on the test set.

    Args:
        result: The task's metric.
        loss: The mean loss.
        details: Further figures by name.
        per_class: The metric, or its like, for each class; empty without classes.
        counts: The test samples of each class; empty without classes.
        class_metric: What ``per_class`` holds; None if it is the task's metric.
    """

    result: float
    loss: float
    details: Mapping[str, float] = field(default_factory=dict)
    per_class: Sequence[float] = ()
    counts: Sequence[int] = ()
    class_metric: Metric | None = None


class Task(ABC):
    """One model on one data set, on one device and in one precision.

    ``model`` is the network itself, which is evaluated and saved, and ``feed`` brings it its data.

    Args:
        config: The run's options.
        data: What it trains and is tested on.
    """

    model: nn.Module
    feed: Feed

    def __init__(self, config: TrainConfig, data: Any) -> None:
        self.config = config
        self.device = resolve_device(config.device)
        self.data = data
        self.feed = self.make_feed()
        self._batch_size = config.batch_size // replicas().num_replicas
        self._dtype = DTYPES.get(resolve_precision(config.precision, self.device))
        torch.manual_seed(config.seed)
        model = self.make_model()
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._train_model = self._prepare(config.compile)

    # -- What a task is ----------------------------------------------------------------------------

    @abstractmethod
    def make_feed(self) -> Feed:
        """Make what brings the data to the device."""

    @abstractmethod
    def make_model(self) -> nn.Module:
        """Make a freshly initialized model, from the global generator."""

    @abstractmethod
    def inputs(self, batch: Any, indices: np.ndarray) -> Inputs:
        """Make what the model takes, augmented, of a batch.

        Args:
            batch: What the loader gives.
            indices: Which training samples they are, int64 (B,), with ~i for a repeat of i that fills
                the batch.

        Returns:
            Tensors on the device.
        """

    @abstractmethod
    def forward(self, model: nn.Module, inputs: Inputs) -> Any:
        """Run a model; autocast is on where the precision asks for it.

        Args:
            model: The network, perhaps wrapped or compiled, or an average of its weights.
            inputs: What :meth:`inputs` makes.

        Returns:
            The model's outputs.
        """

    @abstractmethod
    def sample_outputs(self, outputs: Any, inputs: Inputs, signals: Sequence[str]) -> SampleOutputs:
        """Compute the losses of a batch, and what is asked for beside them.

        Args:
            outputs: What :meth:`forward` gives.
            inputs: What it was given.
            signals: Names of what is asked for.

        Returns:
            Losses in float32, scores and signals.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module | None = None) -> Evaluation:
        """Evaluate a model on the test set, over all ranks together.

        Args:
            model: An average of the model's weights; by default the model itself.

        Returns:
            The evaluation.
        """

    # -- What a task may have ----------------------------------------------------------------------

    @classmethod  # noqa: B027 - most need none
    def check(cls, config: TrainConfig, data: Any) -> None:
        """Check that the options fit the data, and that nothing is missing to train.

        Args:
            config: The run's options.
            data: What it trains and is tested on.

        Raises:
            ValueError: If they do not fit.
        """

    def picture(self) -> Tensor | None:
        """Show what the model makes.

        Returns:
            An image, uint8 (C, H, W), or None if the model makes none.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """What the task keeps from step to step beside the model, on the host. Call it on every rank."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Go on where a state was taken.

        Args:
            state: What :meth:`state_dict` returned.
        """

    # -- What the training loop asks of it ---------------------------------------------------------

    def begin(self, epoch: int) -> None:
        """Decide the epoch's augmentation.

        Args:
            epoch: The epoch's number.
        """
        self.feed.begin(epoch)

    def train_outputs(self, inputs: Inputs, signals: Sequence[str] = ()) -> SampleOutputs:
        """Run the model on a batch to train on.

        Args:
            inputs: What :meth:`inputs` makes.
            signals: Names of what is asked for beside the losses.

        Returns:
            Losses that can be differentiated, scores and signals.
        """
        return self.sample_outputs(self._train_forward(inputs), inputs, signals)

    @torch.no_grad()
    def eval_outputs(self, inputs: Inputs, signals: Sequence[str] = ()) -> SampleOutputs:
        """Run the model in evaluation mode, without gradients, and leave it in training mode.

        Args:
            inputs: What :meth:`inputs` makes.
            signals: Names of what is asked for beside the losses.

        Returns:
            Losses, scores and signals.
        """
        self.model.eval()
        outputs = self._forward(self.model, inputs)
        self.model.train()
        return self.sample_outputs(outputs, inputs, signals)

    def losses(self, batch: Any, indices: np.ndarray) -> Tensor:
        """Compute the losses of a batch to train on.

        Args:
            batch: What the loader gives.
            indices: Which training samples they are; see :meth:`inputs`.

        Returns:
            The losses (B,).
        """
        return self.train_outputs(self.inputs(batch, indices)).losses

    def gradients(self, indices: np.ndarray) -> Iterable[Sequence[Tensor]]:
        """Compute the gradient of each single sample's loss, chunk by chunk.

        Args:
            indices: The training samples, (n,).

        Returns:
            For each chunk of c samples, in order, their gradients in each parameter, (c, *shape).

        Raises:
            NotImplementedError: If the task has no gradients of single samples.
        """
        raise NotImplementedError(f"{type(self).__name__} has no gradients of single samples")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context that the precision asks for around a forward pass."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, self._dtype)

    @contextmanager
    def on_a_copy(self) -> Iterator[None]:
        """Undo on leaving whatever is trained inside: weights, statistics and the task's state."""
        weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        state = self.state_dict()
        yield
        self.model.load_state_dict(weights)
        self.load_state_dict(state)

    # -- Inside ------------------------------------------------------------------------------------

    def _train_forward(self, inputs: Inputs) -> Any:
        """Run the model as it is trained: wrapped for several ranks, and compiled if asked for."""
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        whole = len(inputs[0]) == self._batch_size or shrinks_batches(self.config)
        return self._forward(self._train_model if whole else self._uncompiled, inputs)

    def _forward(self, model: nn.Module, inputs: Inputs) -> Any:
        """Run a model under autocast."""
        with self.autocast():
            return self.forward(model, inputs)

    def _prepare(self, compiled: bool) -> nn.Module:
        """Wrap and compile the model to train it; the last short batch of an epoch runs uncompiled.

        Where batches shrink, what is compiled takes any size, and there are no CUDA graphs, which are
        made for one; nor does a graph take the weights of a batch.
        """
        model = self.model
        self._uncompiled = model
        on_several, on_cuda = replicas().num_replicas > 1, self.device.type == "cuda"
        shrinks, weighs = shrinks_batches(self.config), self.config.batch_norm == "weighted"
        if on_several and on_cuda:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
            self.model = model
        if weighs:
            weigh_batch_norm(model)
        if on_several:
            devices = [torch.cuda.current_device()] if on_cuda else None
            self._uncompiled = model = DistributedDataParallel(model, device_ids=devices)
        resident = self.config.resident  # which records the whole step
        self._graphs = compiled and on_cuda and not (on_several or shrinks or weighs or resident)
        if compiled:
            torch.compiler.reset()  # earlier runs of this process count against a limit
            mode = "reduce-overhead" if self._graphs else "default"
            dynamic = None if shrinks else False
            model = torch.compile(model, dynamic=dynamic, mode=mode)  # type: ignore[assignment]
        return model


def without_marks(indices: np.ndarray) -> np.ndarray:
    """The samples that indices (B,) stand for, i in place of ~i."""
    return np.where(indices < 0, ~indices, indices)


def indices_on(device: torch.device, indices: np.ndarray) -> Tensor:
    """Bring a batch's indices to the device, without waiting for it.

    Args:
        device: Where to.
        indices: int64 (B,), ~i for a repeat of i that fills a batch.

    Returns:
        int64 (B,), i in place of ~i.
    """
    plain = torch.from_numpy(without_marks(indices))
    if device.type == "cuda":
        plain = plain.pin_memory()
    return plain.to(device, non_blocking=True)
