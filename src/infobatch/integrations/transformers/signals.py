"""What is known of sequences that have a class, beside their losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infobatch.integrations.transformers.batches import logits_of
from infobatch.losses import NOT_SUPERVISED, classification_gradient_norms, classification_margins


def class_logits(outputs: Any) -> Tensor | None:
    """The logits of what a model made of a batch, (B, C), C at least 2; None if they are no classes'."""
    logits = logits_of(outputs)
    return logits if logits.ndim == 2 and logits.shape[1] >= 2 else None


def class_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """The margin of each sequence, float32 (B,); NaN for a label -100."""
    classes = labels.flatten()
    margins = classification_margins(logits, classes.clamp(min=0))
    return margins.where(classes != NOT_SUPERVISED, torch.nan)


def class_norms(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """The norm of the gradient of each sequence's loss in its logits, float32 (B,); any for -100."""
    classes = labels.flatten().clamp(min=0)
    return classification_gradient_norms(logits, classes, label_smoothing=label_smoothing)
