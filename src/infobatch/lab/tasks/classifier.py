"""What tasks have in common whose network gives each sample a class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from infobatch.lab.tasks.base import Inputs, SampleOutputs, Task
from infobatch.losses import (
    classification_confidences,
    classification_gradient_norms,
    classification_losses,
    classification_margins,
)

CHUNK_NUMBERS, CHUNK_SAMPLES = 1 << 26, 32
"""The most numbers (256 MB), and the most samples, whose gradients are held at once."""


class Classifier(Task):
    """A network that gives each sample a class: cross-entropy, signals and gradients of single samples.

    Inputs are what the network takes and, last, labels (B,) or each class's share (B, num_classes).
    Signals are ``gradient_norms``, ``confidences``, ``margins`` and, with labels, ``correct``: whether
    the predicted class is the label.
    """

    def sample_outputs(self, outputs: Tensor, inputs: Inputs, signals: Sequence[str]) -> SampleOutputs:
        targets, smoothing = inputs[-1], self.config.label_smoothing
        read = {}
        if "gradient_norms" in signals:
            read["gradient_norms"] = classification_gradient_norms(
                outputs, targets, label_smoothing=smoothing
            )
        if "confidences" in signals:
            read["confidences"] = classification_confidences(outputs, targets)
        if "margins" in signals:
            read["margins"] = classification_margins(outputs, targets)
        if "correct" in signals:
            read["correct"] = outputs.detach().argmax(1) == targets
        losses = classification_losses(outputs, targets, label_smoothing=smoothing)
        return SampleOutputs(losses, signals=read)

    @property
    def gradient_chunk(self) -> int:
        """The number of samples whose gradients in all parameters are held at once."""
        num_numbers = sum(p.numel() for p in self.model.parameters())
        return min(max(CHUNK_NUMBERS // num_numbers, 2), CHUNK_SAMPLES)

    def gradients(self, indices: np.ndarray) -> Iterator[list[Tensor]]:
        """Compute gradients in float32, at batch norm's running statistics, of augmented samples.

        Args:
            indices: The training samples, (n,).

        Returns:
            For each chunk of c samples, in order, their gradients in each parameter, (c, *shape).
        """
        size = self.gradient_chunk
        self.model.eval()
        try:
            for start in range(0, len(indices), size):
                part = indices[start : start + size]
                batch = self.feed.collate([self.feed.dataset[i] for i in part.tolist()])
                *inputs, targets = self.inputs(batch, part)
                yield sample_gradients(self.model, inputs, targets, self.config.label_smoothing)
        finally:
            self.model.train()


def sample_gradients(
    model: nn.Module, inputs: Sequence[Tensor], targets: Tensor, label_smoothing: float = 0.0
) -> list[Tensor]:
    """Compute the gradient of each sample's loss.

    Args:
        model: A classifier in evaluation mode, where samples do not depend on their batch mates.
        inputs: What it takes, tensors whose first dimension is B.
        targets: Labels (B,), or each class's share (B, num_classes).
        label_smoothing: The loss's label smoothing, in [0, 1); by default none.

    Returns:
        The gradients in each parameter, (B, *shape).
    """
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], inputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        logits = functional_call(model, parameters, tuple(each[None] for each in inputs))
        return classification_losses(logits, target[None], label_smoothing=label_smoothing).sum()

    return list(vmap(grad(loss), in_dims=(None, 0, 0))(parameters, tuple(inputs), targets).values())
