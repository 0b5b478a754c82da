"""A policy's answer to the request of an epoch, checked and made a selection."""

from __future__ import annotations

import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, KeepProbabilities, Policy, Request
from infobatch.scores.table import ScoreTable
from infobatch.selection.draws import draw
from infobatch.selection.selection import Selection


def select(policy: Policy, scores: ScoreTable, request: Request) -> Selection:
    """Select what a coming epoch trains on: by a draw, or as a biased policy says.

    Args:
        policy: What to leave out.
        scores: What is known of each sample.
        request: What the epoch asks of the policy.

    Returns:
        The selected samples and their weights.

    Raises:
        ValueError: If the policy's answer is not of all samples, or leaves out another number than the
            request asks for.
        TypeError: If the policy's answer is of another kind.
    """
    if isinstance(policy, BiasedPolicy):
        return Selection.of(_checked_weights(policy, scores, request))
    keep = policy.keep_probabilities(scores, request)
    _check_probabilities(keep, policy, len(scores), request)
    wanted = None if request.num_pruned is None else len(scores) - request.num_pruned
    return draw(keep, request.generator, request.epoch_sizes, wanted)


def _check_probabilities(
    keep: KeepProbabilities, policy: Policy, num_samples: int, request: Request
) -> None:
    """Raise an error for keep probabilities of other samples, or of another number to keep."""
    if not isinstance(keep, KeepProbabilities):
        raise TypeError(
            f"{policy!r} answered with a {type(keep).__name__}; keep_probabilities must return "
            "KeepProbabilities(probabilities), of shape (N,)"
        )
    _check_tensors(keep, policy)
    of_each = keep.probabilities if keep.strata is None else keep.strata
    if keep.groups is not None:
        return  # the number of samples is left to the groups that are drawn
    if of_each.shape != (num_samples,):
        what = "keep probabilities" if keep.strata is None else "strata"
        raise ValueError(
            f"{policy!r} gave {what} of shape {tuple(of_each.shape)}; there are {num_samples:,} "
            "samples, and each must have one: shape (N,)"
        )
    if request.num_pruned is not None:
        keep.check()  # which the draw does only once they are added up
        kept = keep.total(keep.probabilities.to(torch.float64))
        _check_number(kept, policy, num_samples, request.num_pruned, request.epoch_sizes.multiple)


def _check_tensors(keep: KeepProbabilities, policy: Policy) -> None:
    """Raise ``TypeError`` for keep probabilities or strata that are no tensors to draw by."""
    given = {"probabilities": keep.probabilities, "strata": keep.strata}
    for name, values in given.items():
        if values is not None and not isinstance(values, Tensor):
            raise TypeError(
                f"{policy!r} gave {name} that are a {type(values).__name__}; give a tensor, as "
                "torch.from_numpy makes one"
            )
    if keep.strata is not None and keep.strata.dtype != torch.uint8:
        raise TypeError(
            f"{policy!r} gave strata of dtype {keep.strata.dtype}; number them from 0 in uint8: "
            "strata.to(torch.uint8)"
        )
    if keep.probabilities.ndim != 1 or keep.probabilities.requires_grad:
        raise TypeError(
            f"{policy!r} gave probabilities of shape {tuple(keep.probabilities.shape)}"
            f"{', with a gradient' * keep.probabilities.requires_grad}; give one of each sample, or of "
            "each stratum: a tensor of one dimension, detached"
        )


def _checked_weights(policy: BiasedPolicy, scores: ScoreTable, request: Request) -> Tensor:
    """The weights of a biased policy, float32; an error for other samples or another number of them."""
    weights, num_samples = policy.weights(scores, request), len(scores)
    if not isinstance(weights, Tensor) or weights.shape != (num_samples,):
        shape = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
        raise ValueError(
            f"{policy!r} gave weights of shape {shape}; there are {num_samples:,} samples, and each "
            "must have one: a tensor of shape (N,), 0 where it is left out"
        )
    weights = weights.detach().to(torch.float32)
    if not bool((weights.isfinite() & (weights >= 0)).all()) or not bool(weights.any()):
        raise ValueError(f"{policy!r} gave weights that are negative, not finite, or all 0")
    if (kept := int(torch.count_nonzero(weights))) < (least := request.epoch_sizes.least):
        raise ValueError(
            f"{policy!r} keeps {kept:,} samples in an epoch, and {least:,} are needed for "
            "batches that do not shrink below the least; have it keep more, lower the least, or leave "
            "out steps instead: shrink='steps'"
        )
    if request.num_pruned is not None:
        _check_number(kept, policy, num_samples, request.num_pruned, request.epoch_sizes.multiple)
    return weights


def _check_number(kept: float, policy: Policy, num_samples: int, num_pruned: int, multiple: int) -> None:
    """Raise ``ValueError`` if a policy keeps, or expects to keep, another number than is asked for."""
    wanted = num_samples - num_pruned
    off, in_whole_steps = abs(kept - wanted), abs(kept - round(kept / multiple) * multiple) <= 0.5
    if off > multiple - 0.5 or (off > 0.5 and not in_whole_steps):
        raise ValueError(
            f"{policy!r} would keep {kept:,.6g} samples, where {num_pruned:,} of "
            f"{num_samples:,} are to be left out; keep probabilities must sum to "
            f"N - request.num_pruned = {wanted:,}, and as many weights must differ from 0"
        )
