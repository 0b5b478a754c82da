"""Image classification: cross-entropy per image; accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.parallel import DistributedDataParallel

from infobatch.lab.config import TrainConfig
from infobatch.lab.data import Data, Mixing, make_feed
from infobatch.lab.models import make_model
from infobatch.lab.processes import replicas, total
from infobatch.loss import (
    classification_confidences,
    classification_gradient_norms,
    classification_losses,
)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

CHUNK_NUMBERS, CHUNK_SAMPLES = 1 << 26, 32
"""Of gradients held at once: 256 MB."""


@dataclass(frozen=True)
class Evaluation:
    """Over the test images: ``accuracy`` and ``top5`` in percent, mean ``loss``.

    ``per_class``: accuracies in percent, and ``counts``: test images, of each class.
    """

    accuracy: float
    top5: float
    loss: float
    per_class: list[float]
    counts: list[int]


class Classification:
    """One model on one data set, on one device and in one precision.

    ``model``: the network itself, which is evaluated and saved.
    """

    model: nn.Module

    def __init__(self, config: TrainConfig, data: Data) -> None:
        self.device = config.torch_device()
        self.data = data
        self.feed = make_feed(data, self.device, config.seed, config.workers)
        self._batch_size = config.batch_size // replicas().num_replicas
        self._dtype = DTYPES.get(config.precision)
        self._label_smoothing = config.label_smoothing
        self._mixing = None
        if config.mixup or config.cutmix:
            num_samples = len(self.feed.dataset)
            self._mixing = Mixing(num_samples, config.mixup, config.cutmix, config.seed)
        torch.manual_seed(config.seed)
        model = make_model(
            config.model, data.num_channels, data.num_classes, config.stem_stride, config.norm
        )
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._train_model = self._prepare(config.compile)

    def begin(self, epoch: int) -> None:
        """Decide the epoch's augmentation."""
        self.feed.begin(epoch)
        if self._mixing is not None:
            self._mixing.begin(epoch, self.device)

    def losses(self, batch: Any, samples: np.ndarray) -> Tensor:
        """The losses of a batch of training images, augmented: float32 (B,). See :meth:`inputs`."""
        return self.losses_of(*self.inputs(batch, samples))

    def inputs(self, batch: Any, samples: np.ndarray) -> tuple[Tensor, Tensor]:
        """Augmented and normalised training images (B, C, H, W) on the device, and their targets.

        ``batch``: as the loader gives it, of the images ``samples`` (B,).
        """
        pixels, labels = self.feed(batch)
        images = self._to_images(pixels)
        targets = labels
        if self._mixing is not None:
            indices = torch.from_numpy(np.where(samples < 0, ~samples, samples))
            if self.device.type == "cuda":
                indices = indices.pin_memory()
            indices = indices.to(self.device, non_blocking=True)
            images, targets = self._mixing(images, labels, indices, self.data.num_classes)
        return images, targets

    @property
    def gradient_chunk(self) -> int:
        """Of how many samples the gradients of all parameters are held at once."""
        num_numbers = sum(p.numel() for p in self.model.parameters())
        return min(max(CHUNK_NUMBERS // num_numbers, 2), CHUNK_SAMPLES)

    def gradients(self, samples: np.ndarray) -> Iterator[list[Tensor]]:
        """The true gradient of each of ``samples`` (n,), chunk by chunk: in each parameter (c, *shape).

        In float32, at batch norm's running statistics, and augmented as :meth:`begin` decided.
        """
        size = self.gradient_chunk
        self.model.eval()
        try:
            for start in range(0, len(samples), size):
                part = samples[start : start + size]
                batch = self.feed.collate([self.feed.dataset[i] for i in part.tolist()])
                images, targets = self.inputs(batch, part)
                yield sample_gradients(self.model, images, targets, self._label_smoothing)
        finally:
            self.model.train()

    def losses_of(self, images: Tensor, targets: Tensor) -> Tensor:
        """The losses of normalised images (B, C, H, W) on the device: float32 (B,)."""
        return self.tell(images, targets)[0]

    def tell(
        self, images: Tensor, targets: Tensor, signals: Sequence[str] = ()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The losses of normalised images (B, C, H, W), and those ``signals`` that are asked for."""
        return self._told(self._training_logits(images), targets, signals)

    @torch.no_grad()
    def look(
        self, images: Tensor, targets: Tensor, signals: Sequence[str] = ()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The same of the model in evaluation mode, from a forward pass alone."""
        self.model.eval()
        logits = self._forward(self.model, images)
        self.model.train()
        return self._told(logits, targets, signals)

    def _told(
        self, logits: Tensor, targets: Tensor, signals: Sequence[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        smoothing = self._label_smoothing
        told = {}
        if "gradient_norms" in signals:
            told["gradient_norms"] = classification_gradient_norms(
                logits, targets, label_smoothing=smoothing
            )
        if "confidences" in signals:
            told["confidences"] = classification_confidences(logits, targets)
        return classification_losses(logits, targets, label_smoothing=smoothing), told

    def training_logits(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Of a batch as the loader gives it, augmented but not mixed: logits (B, C), labels (B,)."""
        pixels, labels = self.feed(batch)
        return self._training_logits(self._to_images(pixels)), labels

    def _training_logits(self, images: Tensor) -> Tensor:
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        whole = len(images) == self._batch_size
        return self._forward(self._train_model if whole else self._uncompiled, images)

    def training_images(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The training images as test images are, not augmented: of each batch of up to ``size`` the
        indices (B,), on the host, normalised images (B, C, H, W) and labels (B,).

        Each once over all processes together.
        """
        for indices, (pixels, labels) in self.feed.plain_batches(size, replicas()):
            yield indices, self._to_images(pixels), labels

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """What the model as it is, in the mode it is in, makes of normalised images: (B, C)."""
        return self._forward(self.model, images)

    @contextmanager
    def on_a_copy(self) -> Iterator[None]:
        """What is trained inside leaves weights and statistics as they were."""
        state = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        yield
        self.model.load_state_dict(state)

    @torch.no_grad()
    def evaluate(self, model: nn.Module | None = None) -> Evaluation:
        """Evaluate the model, or an average of its weights; over all processes together."""
        model = model or self.model
        model.eval()
        # Of each class: images, right ones, right ones among five guesses, sum of losses.
        sums = torch.zeros(4, self.data.num_classes, dtype=torch.float64, device=self.device)
        num_guesses = min(5, self.data.num_classes)
        for pixels, labels in self.feed.test_batches(replicas()):
            logits = self._forward(model, self._to_images(pixels))
            right = logits.topk(num_guesses).indices == labels[:, None]
            values = torch.stack(
                [
                    torch.ones_like(labels, dtype=torch.float64),
                    right[:, 0].double(),
                    right.any(1).double(),
                    classification_losses(logits, labels).double(),
                ]
            )
            sums.index_add_(1, labels, values)
        model.train()
        counts, right, among_five, losses = total(sums)
        num_images = counts.sum()
        return Evaluation(
            accuracy=float(100 * right.sum() / num_images),
            top5=float(100 * among_five.sum() / num_images),
            loss=float(losses.sum() / num_images),
            per_class=(100 * right / counts).tolist(),
            counts=counts.long().tolist(),
        )

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

    def _to_images(self, pixels: Tensor) -> Tensor:
        images = self.feed.normalize(pixels)
        return images.contiguous(memory_format=torch.channels_last)

    def _forward(self, model: nn.Module, images: Tensor) -> Tensor:
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            logits: Tensor = model(images)
        return logits.float()


def sample_gradients(
    model: nn.Module, images: Tensor, targets: Tensor, label_smoothing: float = 0.0
) -> list[Tensor]:
    """The gradient of each sample's loss in each parameter, (B, *shape).

    ``model``: in evaluation mode, where samples do not depend on their batch mates.
    """
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        logits = functional_call(model, parameters, (image[None],))
        return classification_losses(logits, target[None], label_smoothing=label_smoothing).sum()

    return list(vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images, targets).values())
