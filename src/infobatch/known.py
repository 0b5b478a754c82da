"""Scores that are known before a run: of another run, or of a first look at the data."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor

from infobatch.export import read_scores
from infobatch.policies import Policy
from infobatch.scores import COLUMNS, LOSSES, FloatArray, ScoreTable

KnownScores = ScoreTable | Tensor | str | Path
"""A table; losses, float (N,), NaN where unknown; or the file of a run's exported scores."""


def known_losses(scores: KnownScores, num_samples: int) -> FloatArray:
    """The loss of each sample, float32 (N,), NaN where it is not known: a copy.

    ``ValueError`` or ``TypeError`` if ``scores`` are not those of ``num_samples`` samples.
    """
    source = "scores"
    if isinstance(scores, (str, os.PathLike)):
        source, scores = f"scores of {scores}", read_scores(scores)
    losses = scores["last_loss"] if isinstance(scores, ScoreTable) else scores
    if not isinstance(losses, Tensor):
        raise TypeError(
            f"scores are a {type(losses).__name__}; give a ScoreTable, a tensor with one loss for each "
            "sample, or the file that a run exported"
        )
    if not losses.is_floating_point():
        raise TypeError(f"scores have dtype {losses.dtype}; they must be floating point, NaN if unknown")
    if losses.shape != (num_samples,):
        raise ValueError(
            f"{source} have shape {tuple(losses.shape)}, and the dataset has {num_samples:,} samples; "
            "give one for each, in the dataset's order"
        )
    known: FloatArray = losses.detach().to("cpu", torch.float32, copy=True).numpy()
    if not torch.from_numpy(known).isfinite().any():
        raise ValueError(
            f"{source} are all NaN or infinite, so that nothing is known; give finite losses, or leave "
            "scores out"
        )
    return known


def warn_of_no_effect(policy: Policy, warmup_epochs: int) -> None:
    """Warn of scores that are given to a run that will not read them."""
    if not reads_losses(policy):
        warnings.warn(f"scores have no effect: {policy!r} does not go by losses", stacklevel=4)
    elif warmup_epochs:
        warnings.warn(
            f"scores have no effect: warmup_epochs is {warmup_epochs}, and an epoch on all data gives "
            "newer ones; set warmup_epochs=0 to prune the first epoch",
            stacklevel=4,
        )


def reads_losses(policy: Policy) -> bool:
    """Whether a policy goes by what scores given before a run can tell."""
    kept = (COLUMNS[name] for name in policy.columns)
    return any(column.signal == LOSSES and not column.training for column in kept)
