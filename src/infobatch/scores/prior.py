"""Scores that are known before a run: of another run, or of a first look at the data."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from infobatch.scores.columns import FloatArray
from infobatch.scores.files import read_scores
from infobatch.scores.table import ScoreTable

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
