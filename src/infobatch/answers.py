"""What a policy answers, checked before it is drawn from: a wrong one would be trained on silently."""

from __future__ import annotations

import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, KeepProbabilities, Policy, Request


def check_probabilities(
    keep: KeepProbabilities, policy: Policy, num_samples: int, request: Request
) -> None:
    """Refuse keep probabilities that are not of all samples, or do not leave out what they have to."""
    if not isinstance(keep, KeepProbabilities):
        raise TypeError(
            f"{policy!r} answered with a {type(keep).__name__}; keep_probabilities must return "
            "KeepProbabilities(probabilities), of shape (N,)"
        )
    of_each = keep.probabilities if keep.strata is None else keep.strata
    if of_each.shape != (num_samples,):
        what = "keep probabilities" if keep.strata is None else "strata"
        raise ValueError(
            f"{policy!r} gave {what} of shape {tuple(of_each.shape)}; there are {num_samples:,} "
            "samples, and each must have one: shape (N,)"
        )
    _check_number(float(keep.per_sample().sum()), policy, num_samples, request)


def check_weights(weights: Tensor, policy: BiasedPolicy, num_samples: int, request: Request) -> None:
    """The same for the weights of a biased policy."""
    if not isinstance(weights, Tensor) or weights.shape != (num_samples,):
        shape = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
        raise ValueError(
            f"{policy!r} gave weights of shape {shape}; there are {num_samples:,} samples, and each "
            "must have one: a tensor of shape (N,), 0 where it is left out"
        )
    if not bool((weights.isfinite() & (weights >= 0)).all()) or not bool(weights.any()):
        raise ValueError(f"{policy!r} gave weights that are negative, not finite, or all 0")
    _check_number(float(torch.count_nonzero(weights)), policy, num_samples, request)


def _check_number(kept: float, policy: Policy, num_samples: int, request: Request) -> None:
    """``kept``: the number of samples that the policy would keep, or expects to."""
    if request.num_pruned is None:
        return
    wanted = num_samples - request.num_pruned
    if abs(kept - wanted) > request.multiple - 0.5:  # false for NaN, which the draw tells of
        raise ValueError(
            f"{policy!r} would keep {kept:,.6g} samples, where {request.num_pruned:,} of "
            f"{num_samples:,} are to be left out; keep probabilities must sum, and the weights other "
            f"than 0 number, N - request.num_pruned = {wanted:,}"
        )
