"""Semantic segmentation: mean cross-entropy over each image's labelled pixels; mean IoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infobatch.lab.data import SegmentationData
from infobatch.lab.data.crops import CropFeed, Cropping
from infobatch.lab.data.segmentation import IGNORED
from infobatch.lab.models.segmentation import make_segmenter
from infobatch.lab.processes import replicas, total
from infobatch.lab.tasks.base import Evaluation, Inputs, SampleOutputs, Task
from infobatch.losses import output_gradient_norms, segmentation_losses
from infobatch.scores.columns import NORMS

AUXILIARY_WEIGHT = 0.4
"""The weight of an auxiliary head's loss (Zhao et al., CVPR 2017, and mmsegmentation's UPerNet)."""


class Segmentation(Task):
    """Semantic segmentation.

    Inputs are normalized crops (B, 3, H, W) and classes int64 (B, H, W), IGNORED where unlabelled.
    """

    data: SegmentationData
    feed: CropFeed

    def make_feed(self) -> CropFeed:
        config = self.config
        options = config.segmentation
        cropping = Cropping(options.crop, (options.min_scale, options.max_scale), options.largest_class)
        return CropFeed(self.data, cropping, self.device, config.seed, config.workers)

    def make_model(self) -> nn.Module:
        config = self.config
        return make_segmenter(config.model, self.data.num_classes, config.segmentation.encoder)

    def inputs(self, batch: Any, indices: np.ndarray) -> Inputs:
        pixels, classes = self.feed(batch)
        return self.feed.images(pixels), classes.long()

    def forward(self, model: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
        return tuple(logits.float() for logits in model(inputs[0]))

    def sample_outputs(
        self, outputs: tuple[Tensor, ...], inputs: Inputs, signals: Sequence[str]
    ) -> SampleOutputs:
        """Add up the losses of all heads; an image without a labelled pixel has no score.

        Args:
            outputs: The logits of each head, (B, C, h, w).
            inputs: What :meth:`forward` was given.
            signals: Names of what is asked for: there are norms of gradients, with label smoothing,
                where they do not follow from losses.

        Returns:
            Losses, which images have a score, and signals.
        """
        classes, smoothing = inputs[1], self.config.label_smoothing
        losses = [
            segmentation_losses(
                resized(logits, classes),
                classes,
                ignore_index=IGNORED,
                label_smoothing=smoothing,
            )
            for logits in outputs
        ]
        whole, read = losses[0] + AUXILIARY_WEIGHT * sum(losses[1:]), {}
        if smoothing and NORMS in signals:
            read[NORMS] = output_gradient_norms(whole, *outputs)
        scored = classes.ne(IGNORED).flatten(1).any(1)
        return SampleOutputs(whole, scored=scored, signals=read)

    @torch.no_grad()
    def evaluate(self, model: nn.Module | None = None) -> Evaluation:
        model = model or self.model
        model.eval()
        num_classes = self.data.num_classes
        confusion = torch.zeros(num_classes**2, dtype=torch.int64, device=self.device)
        losses = torch.zeros((), dtype=torch.float64, device=self.device)
        for pixels, labels in self.feed.test_batches(replicas()):
            outputs = self._forward(model, (self.feed.images(pixels),))[0]
            # One by one, for the logits of a large image at its own size take as much memory as a model.
            for logits, classes in zip(outputs[:, None], labels[:, None].long(), strict=True):
                whole = resized(logits, classes)
                losses += segmentation_losses(whole, classes, ignore_index=IGNORED).sum()
                confusion += confusion_of(whole.argmax(1), classes, num_classes)
        model.train()
        present = self.data.test.present
        matrix = total(confusion).double().view(num_classes, num_classes)
        correct, labelled, predicted = matrix.diag(), matrix.sum(1), matrix.sum(0)
        overlaps = 100 * correct / (labelled + predicted - correct)  # NaN for a class that is in neither
        return Evaluation(
            result=float(overlaps.nanmean()),
            loss=float(total(losses) / present.any(1).sum()),
            details={
                "pixel accuracy %": float(100 * correct.sum() / labelled.sum()),
                "mean class accuracy %": float(100 * (correct / labelled).nanmean()),
            },
            per_class=overlaps.tolist(),
            counts=present.sum(0).tolist(),
        )


def resized(logits: Tensor, classes: Tensor) -> Tensor:
    """Resize logits to the size of the labels.

    Args:
        logits: (B, C, h, w).
        classes: (B, H, W).

    Returns:
        (B, C, H, W).
    """
    size = classes.shape[1:]
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def confusion_of(predicted: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """Count how many labelled pixels of each class were predicted to have each class.

    Args:
        predicted: The classes predicted, (B, H, W).
        classes: The true ones, (B, H, W), IGNORED where unlabelled.
        num_classes: C.

    Returns:
        int64 (C * C,); pixels of class a that were taken for b are counted at a * C + b.
    """
    labelled = classes != IGNORED
    pairs = classes[labelled] * num_classes + predicted[labelled]
    return torch.bincount(pairs, minlength=num_classes**2)
