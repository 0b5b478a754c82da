"""Image classification: cross-entropy per image; accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infobatch.lab.config import TrainConfig
from infobatch.lab.data import Augment, ImageData, Normalize
from infobatch.lab.models import make_model
from infobatch.loss import classification_losses

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Evaluation:
    """``accuracy`` in percent and mean ``loss`` over the test images; ``per_class`` accuracies."""

    accuracy: float
    loss: float
    per_class: list[float]


class Classification:
    """One model on one data set, on one device and in one precision."""

    model: nn.Module

    def __init__(self, config: TrainConfig, data: ImageData) -> None:
        self.device = config.torch_device()
        self.data = data if config.workers else data.to(self.device)
        self._normalize = Normalize(data.train.pixels)
        self._normalize.mean = self._normalize.mean.to(self.device)
        self._normalize.std = self._normalize.std.to(self.device)
        self._augment = Augment(self.data, config.seed)
        self._bf16 = config.precision == "bf16"
        self._label_smoothing = config.label_smoothing
        torch.manual_seed(config.seed)
        model = make_model(config.model, data.num_channels, data.num_classes)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def begin(self, epoch: int) -> None:
        """Decide the epoch's augmentation."""
        self._augment.begin(epoch)

    def losses(self, indices: Tensor) -> Tensor:
        """The losses of the training images ``indices`` (B,), augmented: float32 (B,)."""
        indices = indices.to(self.data.train.labels.device, non_blocking=True)
        logits = self._forward(self._augment(indices))
        labels = self.data.train.labels[indices].to(self.device, non_blocking=True)
        return classification_losses(logits, labels, label_smoothing=self._label_smoothing)

    @torch.no_grad()
    def evaluate(self) -> Evaluation:
        self.model.eval()
        logits, labels = [], []
        for start in range(0, len(self.data.test), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            logits.append(self._forward(self.data.test.pixels[part]))
            labels.append(self.data.test.labels[part].to(self.device))
        self.model.train()
        scores, targets = torch.cat(logits), torch.cat(labels)
        correct = (scores.argmax(1) == targets).double()
        classes = range(self.data.num_classes)
        return Evaluation(
            accuracy=100 * float(correct.mean()),
            loss=float(F.cross_entropy(scores, targets)),
            per_class=[100 * float(correct[targets == c].mean()) for c in classes],
        )

    def _forward(self, pixels: Tensor) -> Tensor:
        images = self._normalize(pixels.to(self.device, non_blocking=True))
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            logits: Tensor = self.model(images)
        return logits.float()
