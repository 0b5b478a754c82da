"""Pre-training of masked autoencoders (He et al., CVPR 2022): squared error of masked patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data, ImageFeed, make_feed
from infobatch.lab.data.masks import Masks
from infobatch.lab.models.masked import check_masked_fits, make_masked
from infobatch.lab.processes import replicas, total
from infobatch.lab.tasks.base import Evaluation, Inputs, Task, Told, indices_on
from infobatch.lab.tasks.feature_probes import PROBES, standardised

CHUNK = 250
"""Training images whose features are computed at once."""


class MaskedAutoencoding(Task):
    """Inputs are normalised images (B, C, H, W), and which patches are masked, as :class:`Masks` has it.

    A sample's loss is the mean over its masked patches; a fresh mask is drawn in each epoch.
    """

    feed: ImageFeed

    @classmethod
    def check(cls, config: TrainConfig, data: Data) -> None:
        check_masked_fits(config.model, config.mae, data.shape)
        if config.mae.evaluate != "none" and data.num_classes == 0:
            raise ValueError(
                f"--mae.evaluate is {config.mae.evaluate}, which needs labels, and {data.name} has "
                "none; give --mae.evaluate none, to be judged by the loss on the images to validate on"
            )

    def make_feed(self) -> ImageFeed:
        config = self.config
        return make_feed(self.data, self.device, config.seed, config.workers, config.mae.smallest_crop)

    def make_model(self) -> nn.Module:
        model = make_masked(self.config.model, self.data.shape, self.config.mae)
        num_patches: int = model.vit.embeddings.patch_embeddings.num_patches  # type: ignore[union-attr,assignment]
        self._num_patches = num_patches
        self._masks = Masks(self.config.seed, num_patches, self.device)
        self._test_masks = Masks(0, num_patches, self.device)
        self._test_masks.begin(0)
        return model

    def begin(self, epoch: int) -> None:
        super().begin(epoch)
        self._masks.begin(epoch)

    def inputs(self, batch: Any, samples: np.ndarray) -> Inputs:
        pixels, _ = self.feed(batch)
        return self.feed.normalize(pixels), self._masks(indices_on(self.device, samples))

    def forward(self, model: nn.Module, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The patches as reconstructed (B, P, pixels of a patch), and 1 where one was masked, (B, P)."""
        images, order = inputs
        outputs = model(images, noise=order)
        return outputs.logits.float(), outputs.mask

    def told(self, outputs: tuple[Tensor, Tensor], inputs: Inputs, signals: Sequence[str]) -> Told:
        reconstructed, masked = outputs
        return Told(masked_losses(self._patches(inputs[0]), reconstructed, masked))

    @torch.no_grad()
    def evaluate(self, model: nn.Module | None = None) -> Evaluation:
        """The loss on the test images, each with a mask that is always the same, and the probe."""
        model = model or self.model
        model.eval()
        loss, test = self._test_losses(model)
        probe = PROBES.get(self.config.mae.evaluate)
        if probe is None:
            model.train()
            return Evaluation(loss, loss)
        labels = self.data.train_labels.to(self.device)
        features, test_features = standardised(self._features(model), test[0])
        model.train()
        right = probe(features, labels, test_features, self.data.num_classes) == test[1]
        sums = torch.zeros(2, self.data.num_classes, dtype=torch.float64, device=self.device)
        sums.index_add_(1, test[1], torch.stack([torch.ones_like(right), right]).double())
        counts, correct = total(sums)
        return Evaluation(
            result=float(100 * correct.sum() / counts.sum()),
            loss=loss,
            details={"reconstruction loss": loss},
            per_class=(100 * correct / counts).tolist(),
            counts=counts.long().tolist(),
        )

    # -- Inside ------------------------------------------------------------------------------------

    def _patches(self, images: Tensor) -> Tensor:
        """What is to be reconstructed, (B, P, pixels of a patch)."""
        patches: Tensor = self.model.patchify(images)  # type: ignore[operator]
        return normalised(patches) if self.config.mae.norm_pix_loss else patches

    def _test_losses(self, model: nn.Module) -> tuple[float, tuple[Tensor, Tensor]]:
        """The mean loss of the test images; of this process's, the features (M, D) and labels (M,)."""
        shared = replicas()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        features, classes, done = [], [], 0
        for pixels, labels in self.feed.test_batches(shared):
            places = torch.arange(done, done + len(pixels), device=self.device)
            inputs = (
                self.feed.normalize(pixels),
                self._test_masks(shared.rank + shared.num_replicas * places),
            )
            losses = self.told(self._forward(model, inputs), inputs, ()).losses
            sums += torch.stack([losses.double().sum(), torch.ones_like(losses).double().sum()])
            if self.config.mae.evaluate != "none":
                features.append(self._encoded(model, inputs[0]))
                classes.append(labels)
            done += len(pixels)
        loss, count = total(sums)
        empty = torch.zeros(0, device=self.device)
        known = (torch.cat(features), torch.cat(classes)) if features else (empty, empty)
        return float(loss / count), known

    def _features(self, model: nn.Module) -> Tensor:
        """Of the training images, not augmented, (N, D): all of them on every process."""
        rows: Tensor | None = None
        for indices, (pixels, _) in self.feed.plain_batches(CHUNK, replicas()):
            features = self._encoded(model, self.feed.normalize(pixels)).cpu()
            if rows is None:
                rows = torch.zeros(len(self.feed.dataset), features.shape[1])
            rows[indices] = features
        assert rows is not None
        return total(rows).to(self.device)

    def _encoded(self, model: Any, images: Tensor) -> Tensor:
        """What the encoder makes of whole images: the mean of their patches' tokens, (B, D)."""
        order = torch.arange(self._num_patches, device=self.device).expand(len(images), -1)
        with self.autocast(), unmasked(model):
            tokens: Tensor = model.vit(images, noise=order).last_hidden_state
        return tokens[:, 1:].float().mean(1)


def masked_losses(patches: Tensor, reconstructed: Tensor, masked: Tensor) -> Tensor:
    """The mean squared error (B,) of each image's masked patches.

    ``patches`` and ``reconstructed``: (B, P, D), in float32; ``masked``: 1 or 0, (B, P).
    """
    errors = (reconstructed - patches).square().mean(2)
    return (errors * masked).sum(1) / masked.sum(1)


def normalised(patches: Tensor) -> Tensor:
    """Patches (B, P, D), each with mean 0 and deviation 1 (He et al., section 3)."""
    variances, means = torch.var_mean(patches, dim=2, keepdim=True)
    return (patches - means) / (variances + 1e-6).sqrt()


@contextmanager
def unmasked(model: Any) -> Iterator[None]:
    """Inside, the model's encoder sees all patches, in the order of the noise it is given."""
    ratio = model.config.mask_ratio
    model.config.mask_ratio = 0.0
    try:
        yield
    finally:
        model.config.mask_ratio = ratio
