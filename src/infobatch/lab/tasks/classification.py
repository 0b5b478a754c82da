"""Image classification: cross-entropy per image; accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data, ImageFeed, Mixing, make_feed
from infobatch.lab.models import check_model_fits, make_model
from infobatch.lab.processes import replicas, total
from infobatch.lab.tasks.base import Evaluation, Inputs, Task, Told, indices_on
from infobatch.losses import (
    classification_confidences,
    classification_gradient_norms,
    classification_losses,
)

CHUNK_NUMBERS, CHUNK_SAMPLES = 1 << 26, 32
"""Of gradients held at once: 256 MB."""


class Classification(Task):
    """Inputs are normalised images (B, C, H, W), and labels (B,) or their mixtures (B, num_classes)."""

    feed: ImageFeed

    @classmethod
    def check(cls, config: TrainConfig, data: Data) -> None:
        if data.num_classes == 0:
            raise ValueError(f"--task classification needs labels, and {data.name} has none")
        check_model_fits(config.model, data.shape)

    def make_feed(self) -> ImageFeed:
        feed = make_feed(self.data, self.device, self.config.seed, self.config.workers)
        self._mixing = None
        if self.config.mixup or self.config.cutmix:
            alphas = (self.config.mixup, self.config.cutmix)
            self._mixing = Mixing(len(feed.dataset), *alphas, self.config.seed)
        return feed

    def make_model(self) -> nn.Module:
        config, data = self.config, self.data
        return make_model(
            config.model, data.num_channels, data.num_classes, config.stem_stride, config.norm
        )

    def begin(self, epoch: int) -> None:
        super().begin(epoch)
        if self._mixing is not None:
            self._mixing.begin(epoch, self.device)

    def inputs(self, batch: Any, samples: np.ndarray) -> Inputs:
        pixels, labels = self.feed(batch)
        images = self.feed.images(pixels)
        if self._mixing is None:
            return images, labels
        indices = indices_on(self.device, samples)
        return self._mixing(images, labels, indices, self.data.num_classes)

    def forward(self, model: nn.Module, inputs: Inputs) -> Tensor:
        logits: Tensor = model(inputs[0])
        return logits.float()

    def told(self, outputs: Tensor, inputs: Inputs, signals: Sequence[str]) -> Told:
        targets, smoothing = inputs[1], self.config.label_smoothing
        read = {}
        if "gradient_norms" in signals:
            read["gradient_norms"] = classification_gradient_norms(
                outputs, targets, label_smoothing=smoothing
            )
        if "confidences" in signals:
            read["confidences"] = classification_confidences(outputs, targets)
        losses = classification_losses(outputs, targets, label_smoothing=smoothing)
        return Told(losses, signals=read)

    @torch.no_grad()
    def evaluate(self, model: nn.Module | None = None) -> Evaluation:
        model = model or self.model
        model.eval()
        # Of each class: images, right ones, right ones among five guesses, sum of losses.
        sums = torch.zeros(4, self.data.num_classes, dtype=torch.float64, device=self.device)
        num_guesses = min(5, self.data.num_classes)
        for pixels, labels in self.feed.test_batches(replicas()):
            logits = self._forward(model, (self.feed.images(pixels),))
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
        top_five = {"top-5 %": float(100 * among_five.sum() / num_images)}
        return Evaluation(
            result=float(100 * right.sum() / num_images),
            loss=float(losses.sum() / num_images),
            details=top_five if self.data.num_classes > 10 else {},
            per_class=(100 * right / counts).tolist(),
            counts=counts.long().tolist(),
        )

    # -- For scores made beforehand, and the noise of gradients ------------------------------------

    @property
    def gradient_chunk(self) -> int:
        """Of how many samples the gradients of all parameters are held at once."""
        num_numbers = sum(p.numel() for p in self.model.parameters())
        return min(max(CHUNK_NUMBERS // num_numbers, 2), CHUNK_SAMPLES)

    def gradients(self, samples: np.ndarray) -> Iterator[list[Tensor]]:
        """In float32, at batch norm's running statistics, and augmented as :meth:`begin` decided."""
        size = self.gradient_chunk
        self.model.eval()
        try:
            for start in range(0, len(samples), size):
                part = samples[start : start + size]
                batch = self.feed.collate([self.feed.dataset[i] for i in part.tolist()])
                images, targets = self.inputs(batch, part)
                yield sample_gradients(self.model, images, targets, self.config.label_smoothing)
        finally:
            self.model.train()

    def training_logits(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Of a batch as the loader gives it, augmented but not mixed: logits (B, C), labels (B,)."""
        pixels, labels = self.feed(batch)
        return self._training_outputs((self.feed.images(pixels),)), labels

    def training_images(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The training images as test images are, not augmented: of each batch of up to ``size`` the
        indices (B,), on the host, normalised images (B, C, H, W) and labels (B,).

        Each once over all processes together.
        """
        for indices, (pixels, labels) in self.feed.plain_batches(size, replicas()):
            yield indices, self.feed.images(pixels), labels

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """What the model as it is, in the mode it is in, makes of normalised images: (B, C)."""
        logits: Tensor = self._forward(self.model, (images,))
        return logits


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
