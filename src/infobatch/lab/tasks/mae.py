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
from infobatch.lab.tasks.base import Evaluation, Inputs, SampleOutputs, Task, indices_on
from infobatch.lab.tasks.feature_evaluation import CLASSIFIERS, standardized

CHUNK = 250
"""The number of training images whose features are computed at once."""


class MaskedAutoencoding(Task):
    """Reconstruction of masked patches.

    Inputs are normalized images (B, C, H, W), and a random number for each of their patches, which
    :class:`Masks` draws anew in each epoch. A sample's loss is the mean over its masked patches.
    """

    feed: ImageFeed

    @classmethod
    def check(cls, config: TrainConfig, data: Data) -> None:
        check_masked_fits(config.model, config.mae, data.shape)
        if config.mae.evaluate != "none" and data.num_classes == 0:
            raise ValueError(
                f"--mae.evaluate is {config.mae.evaluate}, which needs labels, and {data.name} has "
                "none; give --mae.evaluate none, to be judged by the loss on the test images"
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

    def inputs(self, batch: Any, indices: np.ndarray) -> Inputs:
        pixels, _ = self.feed(batch)
        return self.feed.normalize(pixels), self._masks(indices_on(self.device, indices))

    def forward(self, model: nn.Module, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Run a model; autocast is on where the precision asks for it.

        Args:
            model: The network, perhaps wrapped or compiled, or an average of its weights.
            inputs: What :meth:`inputs` makes.

        Returns:
            The patches as reconstructed (B, P, pixels of a patch), and 1 where one was masked, (B, P).
        """
        images, order = inputs
        outputs = model(images, noise=order)
        return outputs.logits.float(), outputs.mask

    def sample_outputs(
        self, outputs: tuple[Tensor, Tensor], inputs: Inputs, signals: Sequence[str]
    ) -> SampleOutputs:
        reconstructed, masked = outputs
        return SampleOutputs(masked_losses(self._patches(inputs[0]), reconstructed, masked))

    @torch.no_grad()
    def evaluate(self, model: nn.Module | None = None) -> Evaluation:
        """Evaluate a model by its loss, at masks that are always the same, and by its features.

        Args:
            model: An average of the model's weights; by default the model itself.

        Returns:
            The evaluation; its result is the accuracy by the features or, without one, the loss.
        """
        model = model or self.model
        model.eval()
        loss, test = self._test_losses(model)
        predict = CLASSIFIERS.get(self.config.mae.evaluate)
        if predict is None:
            model.train()
            return Evaluation(loss, loss)
        labels = self.data.train_labels.to(self.device)
        features, test_features = standardized(self._features(model), test[0])
        model.train()
        correct = predict(features, labels, test_features, self.data.num_classes) == test[1]
        sums = torch.zeros(2, self.data.num_classes, dtype=torch.float64, device=self.device)
        sums.index_add_(1, test[1], torch.stack([torch.ones_like(correct), correct]).double())
        counts, num_correct = total(sums)
        return Evaluation(
            result=float(100 * num_correct.sum() / counts.sum()),
            loss=loss,
            details={"reconstruction loss": loss},
            per_class=(100 * num_correct / counts).tolist(),
            counts=counts.long().tolist(),
        )

    # -- Inside ------------------------------------------------------------------------------------

    def _patches(self, images: Tensor) -> Tensor:
        """The patches to reconstruct, (B, P, pixels of a patch)."""
        patches: Tensor = self.model.patchify(images)  # type: ignore[operator]
        return normalized(patches) if self.config.mae.norm_pix_loss else patches

    def _test_losses(self, model: nn.Module) -> tuple[float, tuple[Tensor, Tensor]]:
        """The mean loss of all test images, and the features (M, D) and labels (M,) of this rank's."""
        shared = replicas()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        features, classes, done = [], [], 0
        for pixels, labels in self.feed.test_batches(shared):
            places = torch.arange(done, done + len(pixels), device=self.device)
            inputs = (
                self.feed.normalize(pixels),
                self._test_masks(shared.rank + shared.num_replicas * places),
            )
            losses = self.sample_outputs(self._forward(model, inputs), inputs, ()).losses
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
        """The features of all training images, not augmented, (N, D), on every rank."""
        rows: Tensor | None = None
        for indices, (pixels, _) in self.feed.plain_batches(CHUNK, replicas()):
            features = self._encoded(model, self.feed.normalize(pixels)).cpu()
            if rows is None:
                rows = torch.zeros(len(self.feed.dataset), features.shape[1])
            rows[indices] = features
        assert rows is not None
        return total(rows).to(self.device)

    def _encoded(self, model: Any, images: Tensor) -> Tensor:
        """The features of whole images: the mean of their patches' tokens, (B, D)."""
        order = torch.arange(self._num_patches, device=self.device).expand(len(images), -1)
        with self.autocast(), unmasked(model):
            tokens: Tensor = model.vit(images, noise=order).last_hidden_state
        return tokens[:, 1:].float().mean(1)


def masked_losses(patches: Tensor, reconstructed: Tensor, masked: Tensor) -> Tensor:
    """Compute the mean squared error of each image's masked patches.

    Args:
        patches: The true patches, float32 (B, P, D).
        reconstructed: The model's, float32 (B, P, D).
        masked: 1 where a patch is masked, else 0, (B, P).

    Returns:
        The losses (B,).

    Source: He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, section 3.
    """
    errors = (reconstructed - patches).square().mean(2)
    return (errors * masked).sum(1) / masked.sum(1)


def normalized(patches: Tensor) -> Tensor:
    """Give each patch mean 0 and deviation 1.

    Args:
        patches: (B, P, D).

    Returns:
        (B, P, D).

    Source: He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, section 3.
    """
    variances, means = torch.var_mean(patches, dim=2, keepdim=True)
    return (patches - means) / (variances + 1e-6).sqrt()


@contextmanager
def unmasked(model: Any) -> Iterator[None]:
    """Let a model's encoder see all patches, in the order of the noise it is given.

    Args:
        model: A masked autoencoder.

    Returns:
        A context manager; inside, nothing is masked.
    """
    ratio = model.config.mask_ratio
    model.config.mask_ratio = 0.0
    try:
        yield
    finally:
        model.config.mask_ratio = ratio
