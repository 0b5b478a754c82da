"""Per-sample losses for the common cases, and their weighted mean.

Each loss returns shape (B,), one for each sample, in the unit of the batch loss it replaces, and
gradients flow through all of it. Where PyTorch averages over pixels or tokens, so do these: over
those of the *sample*, so that a sample's score does not depend on its size or its batch mates.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Normalizer = Literal["batch", "mean", "weights"]
NORMALIZERS: tuple[Normalizer, ...] = get_args(Normalizer)

NOT_SUPERVISED = -100
"""The label of tokens that are not learned, as in transformers."""


def weighted_mean(losses: Tensor, weights: Tensor, normalizer: Normalizer = "batch") -> Tensor:
    """The mean of ``losses`` (B,) weighted by ``weights`` (B,); a new scalar, differentiable.

    ``"batch"``: sum(w * loss) / B, the paper's. At fixed parameters the expected sum of an epoch's
    updates is that of full data: fewer steps, each larger by N / |S|. That holds for SGD; Adam,
    LAMB and LARS cancel the common factor. ``"mean"``: the same, for weights that have been divided by
    their mean over the epoch's selection, as the pruner does. Steps keep the size they have on full
    data, and an epoch's sum shrinks with their number. ``"weights"``: sum(w * loss) / sum(w), by the
    batch's own weights: steps keep their size, too, with a little bias and less noise.
    """
    if normalizer == "weights":
        total = weights.sum()
        return (losses * weights).sum() / torch.where(total > 0, total, torch.ones_like(total))
    return (losses * weights).mean()


def sent_to_device(weights: Tensor, device: torch.device) -> Tensor:
    """The host's weights on their way to a device, without waiting for it."""
    if device.type == "cuda":
        weights = weights.pin_memory()
    return weights.to(device, non_blocking=True)


def classification_losses(
    logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of each sample, (B,).

    ``logits`` (B, C); ``targets`` int64 (B,) in 0..C-1, or float (B, C) with rows that sum to 1, as
    mixup and cutmix make them. ``class_weights`` (C,) scales each class's term; unlike
    ``F.cross_entropy(..., reduction="mean")`` it does not renormalise by the batch's classes, which
    would make a sample's loss depend on its batch mates.
    """
    return F.cross_entropy(
        logits, targets, weight=class_weights, label_smoothing=label_smoothing, reduction="none"
    )


@torch.no_grad()
def classification_gradient_norms(
    logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """The norm of each loss's gradient in its logits, ||p - y||, (B,): in [0, sqrt(2)].

    Arguments as in :func:`classification_losses`. Up to a factor that varies less it bounds the norm of
    the whole gradient (Katharopoulos & Fleuret, ICML 2018, section 3.2; EL2N: Paul et al., 2021).
    """
    errors = logits.float().softmax(1) - _as_shares(logits, targets, label_smoothing)
    norms: Tensor = torch.linalg.vector_norm(errors, dim=1)
    return norms


@torch.no_grad()
def classification_confidences(logits: Tensor, targets: Tensor) -> Tensor:
    """The probability that is given to each sample's own class, (B,): in [0, 1].

    Arguments as in :func:`classification_losses`; of mixed targets, the mean of their classes'.
    """
    return (logits.float().softmax(1) * _as_shares(logits, targets, 0.0)).sum(1)


def _as_shares(logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """Targets as shares of the classes, float32 (B, C)."""
    num_classes = logits.shape[1]
    if not targets.is_floating_point():
        targets = torch.zeros_like(logits).scatter_(1, targets[:, None], 1)
    return targets.float() * (1 - label_smoothing) + label_smoothing / num_classes


def segmentation_losses(
    logits: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = 255,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy over each image's valid pixels, (B,).

    ``logits`` (B, C, *spatial); ``targets`` int64 (B, *spatial), ``ignore_index`` where unlabelled.
    An image without a valid pixel has loss and gradient 0, and no score: tell
    :meth:`DynamicPruner.update` with ``scored=(targets != ignore_index).flatten(1).any(1)``.
    """
    losses = F.cross_entropy(
        logits,
        targets,
        weight=class_weights,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction="none",
    )
    return _mean_over_valid(losses.flatten(1), targets.ne(ignore_index).flatten(1))


def sequence_losses(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = NOT_SUPERVISED,
    label_smoothing: float = 0.0,
    shift: bool = False,
) -> Tensor:
    """Mean cross-entropy over each sequence's supervised tokens, (B,).

    ``logits`` (B, T, V); ``labels`` int64 (B, T), ``ignore_index`` where not supervised. ``shift``:
    position t predicts the token at t + 1, as causal language models do. A sequence without a
    supervised token has loss and gradient 0, and no score: see :func:`segmentation_losses`.
    """
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    losses = F.cross_entropy(
        logits.transpose(1, 2),
        labels,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction="none",
    )
    return _mean_over_valid(losses, labels.ne(ignore_index))


def _mean_over_valid(losses: Tensor, valid: Tensor) -> Tensor:
    """Row means of ``losses`` (B, n), which are 0 where not ``valid``; 0 for a row with none."""
    return losses.sum(1) / valid.sum(1).clamp(min=1)
