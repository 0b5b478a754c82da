"""Per-sample losses for common tasks, and their weighted mean.

Each loss function gives one loss for each sample, shape (B,), in the unit of the batch loss that it
replaces, and gradients flow through all of them. Where PyTorch averages over the pixels or tokens of a
batch, these functions average over those of each *sample*, so that a sample's score depends neither on
its size nor on the rest of the batch.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from infobatch.compiling import outside_graphs

__all__ = [
    "Normalizer",
    "classification_confidences",
    "classification_gradient_norms",
    "classification_losses",
    "classification_margins",
    "output_gradient_norms",
    "segmentation_losses",
    "sequence_losses",
    "weighted_mean",
]

Normalizer = Literal["batch", "mean", "weights"]
"""What the weighted sum of a batch's losses is divided by: see :func:`weighted_mean`."""
NORMALIZERS: tuple[Normalizer, ...] = get_args(Normalizer)

NOT_SUPERVISED = -100
"""The label of a sample or token that adds no loss, as in torch and transformers."""


def weighted_mean(losses: Tensor, weights: Tensor, normalizer: Normalizer = "batch") -> Tensor:
    """The weighted mean of a batch's losses.

    The normalizers differ in the size of a step when an epoch trains |S| of N samples:

    - ``"batch"``: sum(w * loss) / B, the paper's and the default. At fixed parameters the expected sum
      of an epoch's updates is that of full data: fewer steps, each larger by N / |S|. This holds for
      SGD; Adam, LAMB and LARS cancel the common factor.
    - ``"mean"``: the same, for weights that the pruner has divided by their mean over the epoch's
      selection. Steps keep the size they have on full data, and the sum of an epoch's updates shrinks
      with the number of steps.
    - ``"weights"``: sum(w * loss) / sum(w) with the weights of the batch. Steps keep their size, too,
      with a little bias and less noise.

    Args:
        losses: (B,).
        weights: (B,), on the device of the losses.
        normalizer: ``"batch"``, ``"mean"`` or ``"weights"``.

    Returns:
        A new scalar, through which gradients flow.

    Source: InfoBatch, ICLR 2024, section 2, for ``"batch"``.
    """
    if len(losses) == 0:
        raise ValueError(
            "the batch is empty, and a mean over no losses is NaN; pass over batches without samples. "
            "Where the collate_fn dropped all of them, pruner.record(losses, indices) counts them"
        )
    if normalizer == "weights":
        total = weights.sum()
        return (losses * weights).sum() / torch.where(total > 0, total, torch.ones_like(total))
    return (losses * weights).mean()


def shown_as_mean(loss: Tensor, mean_weight: float) -> Tensor:
    """A weighted mean with its gradient, and its value divided by the mean weight of an epoch.

    Over a pruned epoch sum(w * loss) / B is larger than the mean loss by the mean weight: as a step it
    should be, as a figure in a log it would mislead.

    Args:
        loss: The weighted mean, a scalar.
        mean_weight: Of the samples that the epoch trains.
    """
    if mean_weight == 1:
        return loss
    return torch.add(loss, loss.detach(), alpha=1 / mean_weight - 1)


def sent_to_device(weights: Tensor, device: torch.device) -> Tensor:
    """The ``weights`` (B,) of the host, sent to a device without waiting for it."""
    if device.type == "cpu":
        return weights
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
    """The cross-entropy of each sample.

    Args:
        logits: (B, C) for C classes.
        targets: int64 (B,) in 0..C-1, or -100 for a sample without a label, whose loss is 0; or float
            (B, C) with rows that sum to 1, as mixup and cutmix make them.
        label_smoothing: The share of the target that is spread over all classes, in [0, 1].
        class_weights: (C,), factors on the terms of the classes. Unlike ``F.cross_entropy`` with
            ``reduction="mean"``, the function does not divide by the mean weight of the batch's classes,
            which would make a sample's loss depend on the rest of the batch.

    Returns:
        (B,), at least 0.
    """
    return F.cross_entropy(
        logits, targets, weight=class_weights, label_smoothing=label_smoothing, reduction="none"
    )


@torch.no_grad()
def classification_gradient_norms(
    logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """The norm ||p - y|| of the gradient of each sample's loss in the sample's logits.

    With class weights w the gradient is p sum(w y) - w y. Up to a factor that varies less between
    samples its norm bounds that of the loss's whole gradient.

    Args:
        logits: (B, C) for C classes.
        targets: As :func:`classification_losses` takes them.
        label_smoothing: As :func:`classification_losses` takes it.
        class_weights: As :func:`classification_losses` takes them.

    Returns:
        float32 (B,), without a gradient, at least 0, and at most sqrt(2) without class weights; 0 for a
        sample without a label.

    Source: Katharopoulos & Fleuret, ICML 2018, section 3.2; as a score, EL2N: Paul et al., 2021.
    """
    shares = _as_shares(logits, targets, label_smoothing)
    if class_weights is not None:
        shares = shares * class_weights.float()
    errors = logits.float().softmax(1) * shares.sum(1, keepdim=True) - shares
    norms: Tensor = torch.linalg.vector_norm(errors, dim=1)
    return norms


@torch.no_grad()
def classification_confidences(logits: Tensor, targets: Tensor) -> Tensor:
    """The probability that the model gives to each sample's own class.

    Args:
        logits: (B, C) for C classes.
        targets: As :func:`classification_losses` takes them. For a mixture of classes the result is the
            weighted mean of their probabilities.

    Returns:
        float32 (B,), in [0, 1], without a gradient; NaN for a sample without a label.
    """
    shares = _as_shares(logits, targets, 0.0)
    return (logits.float().softmax(1) * shares).sum(1).where(shares.any(1), torch.nan)


@torch.no_grad()
def classification_margins(logits: Tensor, targets: Tensor) -> Tensor:
    """The margin of each sample: the logit of its own class less the largest of the others.

    Above 0 the sample is classified right.

    Args:
        logits: (B, C) for C classes, at least 2.
        targets: As :func:`classification_losses` takes them. Of a mixture of classes the one with the
            largest share counts as the sample's own.

    Returns:
        float32 (B,), without a gradient; NaN for a sample without a label.

    Source: Pleiss et al., NeurIPS 2020, section 3.
    """
    own = targets.argmax(1) if targets.is_floating_point() else targets
    known = own.ne(NOT_SUPERVISED)
    own = own.where(known, 0)[:, None]
    others = logits.float().scatter(1, own, -torch.inf)
    margins: Tensor = logits.float().gather(1, own)[:, 0] - others.amax(1)
    return margins.where(known, torch.nan)


@outside_graphs
def output_gradient_norms(losses: Tensor, outputs: Tensor, *more: Tensor) -> Tensor:
    """The norm of the gradient of each sample's loss in what the network put out for the sample.

    It is right for whatever loss, with class weights, soft targets or several labels a sample, too. It
    takes a backward pass through the loss alone, whose graph it keeps for ``backward()``. For plain
    classification :func:`classification_gradient_norms` gives the same without one.

    Args:
        losses: (B,), of which each depends on its own sample's outputs alone.
        outputs: What the losses were computed from, such as logits, (B, ...). Of a network in
            ``FullyShardedDataParallel`` take ``outputs.view_as(outputs)``, here and for the losses: its
            hooks on the outputs themselves would take this for ``backward()``.
        *more: Other outputs that the losses depend on, (B, ...).

    Returns:
        float32 (B,), without a gradient, at least 0.

    Raises:
        ValueError: If the losses have no gradient in the outputs, or these do not have one row for each.

    Source: Katharopoulos & Fleuret, ICML 2018, section 3.2, for any loss.
    """
    for output in (outputs, *more):
        if output.ndim == 0 or len(output) != len(losses):
            raise ValueError(
                f"there are {len(losses)} losses, and outputs of shape {tuple(output.shape)}; give "
                "outputs of shape (B, ...), one row for each sample, as they were before any reshaping"
            )
    reached = [output for output in (outputs, *more) if output.requires_grad]
    gradients: tuple[Tensor | None, ...] = ()
    if reached and losses.requires_grad:
        ones = torch.ones_like(losses)
        gradients = torch.autograd.grad(losses, reached, ones, retain_graph=True, allow_unused=True)
    norms = [
        torch.linalg.vector_norm(gradient.unsqueeze(-1).flatten(1), dim=1, dtype=torch.float32)
        for gradient in gradients
        if gradient is not None
    ]
    if not norms:
        raise ValueError(
            "the losses have no gradient in the outputs; call it before backward(), without "
            "torch.no_grad(), and with the outputs that the losses were computed from, not a copy"
        )
    whole: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    return whole


def _as_shares(logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """The targets as shares of the classes, float32 (B, C)."""
    num_classes = logits.shape[1]
    if targets.is_floating_point():
        return targets.float() * (1 - label_smoothing) + label_smoothing / num_classes
    known = targets.ne(NOT_SUPERVISED)[:, None]
    picked = torch.zeros_like(logits).scatter_(1, targets[:, None].where(known, 0), 1)
    return (picked.float() * (1 - label_smoothing) + label_smoothing / num_classes) * known


def segmentation_losses(
    logits: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = 255,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """The mean cross-entropy over each image's labeled pixels.

    An image without a labeled pixel has loss and gradient 0, and no score: give
    :meth:`DynamicPruner.update` ``scored=(targets != ignore_index).flatten(1).any(1)``.

    Args:
        logits: (B, C, *spatial) for C classes.
        targets: int64 (B, *spatial), in 0..C-1 or ``ignore_index``.
        ignore_index: Marks a pixel without a label; 255 as in PASCAL VOC and Cityscapes.
        label_smoothing: The share of the target that is spread over all classes, in [0, 1].
        class_weights: (C,), factors on the terms of the classes.

    Returns:
        (B,), at least 0, in float32 or the logits' dtype, whichever is wider.
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
    """The mean cross-entropy over each sequence's supervised tokens.

    A sequence without a supervised token has loss and gradient 0, and no score: give
    :meth:`DynamicPruner.update` ``scored=(labels != ignore_index).any(1)``, and with ``shift`` the same
    of ``labels[:, 1:]``, since the first token is not predicted.

    Args:
        logits: (B, T, V) for T tokens and a vocabulary of V.
        labels: int64 (B, T), in 0..V-1 or ``ignore_index``.
        ignore_index: Marks a token that is not supervised; -100 as in transformers.
        label_smoothing: The share of the target that is spread over the vocabulary, in [0, 1].
        shift: Whether position t predicts the token at t + 1, as in causal language models. By default
            it predicts the token at t.

    Returns:
        (B,), at least 0, in float32 or the logits' dtype, whichever is wider.
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
    """The row means of ``losses`` (B, n), which are 0 where not ``valid``; 0 for a row without any.

    They are at least float32: a sum over an image's pixels is more than half precision can hold.
    """
    wide = torch.promote_types(losses.dtype, torch.float32)
    return losses.sum(1, dtype=wide) / valid.sum(1).clamp(min=1)
