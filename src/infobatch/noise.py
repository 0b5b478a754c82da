"""The noise of a step's gradient: from norms of samples' gradients and their weights."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

NormsFrom = Literal["cross-entropy", "squared-error", "losses"]
"""What losses are, so that norms of gradients follow from them: see :func:`norms_of_losses`."""
NORMS_FROM: tuple[NormsFrom, ...] = get_args(NormsFrom)
HOW_TO_GIVE_NORMS = "give update gradient_norms=output_gradient_norms(losses, outputs)"
ROUNDING = 0.01
"""A loss may lie below 0 by this part of the largest, as rounding makes it."""


def norms_of_losses(losses: Tensor, norms_from: NormsFrom) -> Tensor:
    """Estimate the norms of samples' gradients, up to a common factor, from their losses alone.

    - ``"cross-entropy"``: 1 - e^-loss, the gap of the own class's probability; the norm in the logits
      lies between it and sqrt(2) times it.
    - ``"squared-error"``: sqrt(2 loss), the norm in the outputs for a loss of |error|^2 / 2.
    - ``"losses"``: the losses themselves.

    Args:
        losses: (B,); a negative loss counts as 0, for its gradient is not known to be smaller.
        norms_from: What the losses are.

    Returns:
        float32 (B,), at least 0, without a gradient.
    """
    known = losses.detach().float().clamp(min=0)
    if norms_from == "cross-entropy":
        known = torch.expm1(-known)
    elif norms_from == "squared-error":
        known = (2 * known).sqrt()
    return known.abs()  # no -0, which a cross-entropy can be


def are_negative(losses: np.ndarray) -> bool:
    """Whether some losses lie below 0, by more than rounding; NaN is passed over."""
    lowest, highest = np.fmin.reduce(losses, initial=0), np.fmax.reduce(losses, initial=0)
    return bool(lowest < -ROUNDING * max(-lowest, highest))


def noise_sums(norms: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sums whose ratio is the noise of a step: of w^2 g^2 and of w g^2, float64 (2,).

    For samples selected with probability 1 / w they estimate the sums of g^2 / p and of g^2 over all
    samples, without bias. NaN norms are passed over.

    Args:
        norms: g, the norms of gradients as samples were trained, (n,).
        weights: w, (n,).

    Source: Horvitz and Thompson, 1952; of importance-sampled batches, Kutsuna, SIMODS 2025.
    """
    moments = weights * np.square(norms, dtype=np.float64)
    known = np.isfinite(moments)
    moments, weights = moments[known], weights[known]
    return np.array([weights @ moments, moments.sum()])


def noise_of(sums: np.ndarray) -> float | None:
    """The second moment of a step, relative to one on full data in as many steps; None if unknown.

    It is at least 1. At 2 a step is as noisy as one on full data with half the batch.

    Args:
        sums: What :func:`noise_sums` gave, added up over all samples.
    """
    return float(sums[0] / sums[1]) if sums[1] > 0 else None
