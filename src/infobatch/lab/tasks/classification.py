"""Image classification: cross-entropy per image; accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from infobatch.distributed import Replicas
from infobatch.lab.config.train import TrainConfig, flag
from infobatch.lab.data import Data, ImageData, ImageFeed, Mixing, make_feed
from infobatch.lab.devices import resolve_device
from infobatch.lab.models import SpeedCNN, check_model_fits, make_model, try_model
from infobatch.lab.processes import replicas, total
from infobatch.lab.tasks.base import Evaluation, Inputs, indices_on
from infobatch.lab.tasks.classifier import Classifier
from infobatch.losses import classification_losses

WHITENED = 5000
"""The images by which a first layer is made that whitens."""


class Classification(Classifier):
    """Image classification.

    Inputs are normalized images (B, C, H, W), and labels (B,) or their mixtures (B, num_classes).
    """

    feed: ImageFeed

    @classmethod
    def check(cls, config: TrainConfig, data: Data) -> None:
        if data.num_classes == 0:
            raise ValueError(f"--task classification needs labels, and {data.name} has none")
        if data.num_classes == 1:
            raise ValueError(
                f"{data.name} has the class {data.class_names[0]} alone, and there is nothing to tell "
                "apart; give data of several classes"
            )
        check_model_fits(config.model, data.shape)
        device = resolve_device(config.device)
        try_model(config.model, data.shape, data.num_classes, device, config.pretrained)
        for option in ("cutout", "resident"):
            if getattr(config, option) and not isinstance(data, ImageData):
                raise ValueError(
                    f"{flag(option)} is for images that are held in memory, and those of {data.name} "
                    "are decoded as they are read; leave it out"
                )

    def make_feed(self) -> ImageFeed:
        config = self.config
        feed = make_feed(self.data, self.device, config.seed, config.workers, cutout=config.cutout)
        self._mixing = None
        if config.mixup or config.cutmix:
            alphas = (config.mixup, config.cutmix)
            self._mixing = Mixing(len(feed.dataset), *alphas, config.seed)
        return feed

    def make_model(self) -> nn.Module:
        config, data = self.config, self.data
        model = make_model(
            config.model,
            data.shape,
            data.num_classes,
            config.stem_stride,
            config.norm,
            config.pretrained,
        )
        if isinstance(model, SpeedCNN):
            _, (pixels, _) = next(self.feed.plain_batches(WHITENED, Replicas()))
            model.whiten(self.feed.images(pixels).cpu())
        return model

    def begin(self, epoch: int) -> None:
        super().begin(epoch)
        if self._mixing is not None:
            self._mixing.begin(epoch, self.device)

    def inputs(self, batch: Any, indices: np.ndarray) -> Inputs:
        pixels, labels = self.feed(batch)
        images = self.feed.images(pixels)
        if self._mixing is None:
            return images, labels
        places = indices_on(self.device, indices)
        return self._mixing(images, labels, places, self.data.num_classes)

    def forward(self, model: nn.Module, inputs: Inputs) -> Tensor:
        logits: Tensor = model(inputs[0])
        return logits.float()

    @torch.no_grad()
    def evaluate(self, model: nn.Module | None = None) -> Evaluation:
        model = model or self.model
        model.eval()
        # Rows: images, correct ones, correct ones among five guesses, sum of losses; a column a class.
        sums = torch.zeros(4, self.data.num_classes, dtype=torch.float64, device=self.device)
        num_guesses = min(5, self.data.num_classes)
        for pixels, labels in self.feed.test_batches(replicas()):
            logits = self._forward(model, (self.feed.images(pixels),))
            correct = logits.topk(num_guesses).indices == labels[:, None]
            values = torch.stack(
                [
                    torch.ones_like(labels, dtype=torch.float64),
                    correct[:, 0].double(),
                    correct.any(1).double(),
                    classification_losses(logits, labels).double(),
                ]
            )
            sums.index_add_(1, labels, values)
        model.train()
        counts, correct, among_five, losses = total(sums)
        num_images = counts.sum()
        top_five = {"top-5 %": float(100 * among_five.sum() / num_images)}
        return Evaluation(
            result=float(100 * correct.sum() / num_images),
            loss=float(losses.sum() / num_images),
            details=top_five if self.data.num_classes > 10 else {},
            per_class=(100 * correct / counts).tolist(),
            counts=counts.long().tolist(),
        )

    # -- For scores made beforehand ----------------------------------------------------------------

    def training_images(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Iterate over the training images without augmentation, each once over all ranks together.

        Args:
            size: The largest batch, B.

        Returns:
            For each batch the indices (B,) on the host, normalized images (B, C, H, W) and labels (B,).
        """
        for indices, (pixels, labels) in self.feed.plain_batches(size, replicas()):
            yield indices, self.feed.images(pixels), labels

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Run the model in the mode it is in.

        Args:
            images: Normalized images (B, C, H, W).

        Returns:
            Logits (B, num_classes).
        """
        logits: Tensor = self._forward(self.model, (images,))
        return logits
