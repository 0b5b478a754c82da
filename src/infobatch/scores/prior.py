"""Prior scores: those known before a run, from another run or from a forward pass over the data."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from infobatch.scores.columns import FloatArray
from infobatch.scores.files import read_scores
from infobatch.scores.table import ScoreTable

PriorScores = ScoreTable | Tensor | str | Path
"""A table; losses, float (N,), NaN where unknown; or the file of a run's exported scores."""


def prior_values(prior_scores: PriorScores, num_samples: int) -> tuple[FloatArray, FloatArray | None]:
    """Read prior scores.

    Args:
        prior_scores: See :data:`PriorScores`.
        num_samples: N.

    Returns:
        The loss of each sample, float32 (N,), NaN where it is not known: a copy. And the norm of its
        gradient, likewise, if the scores have them.

    Raises:
        TypeError: If the scores are of another type, or no floating-point numbers.
        ValueError: If they are not those of N samples, or none of them is finite.
        FileNotFoundError: If there is no such file.
    """
    source = "prior_scores"
    if isinstance(prior_scores, (str, os.PathLike)):
        source, prior_scores = f"the prior_scores of {prior_scores}", read_scores(prior_scores)
    losses, norms = prior_scores, None
    if isinstance(prior_scores, ScoreTable):
        losses, norms = prior_scores["last_loss"], prior_scores.last_norms
    if not isinstance(losses, Tensor):
        raise TypeError(
            f"prior_scores are a {type(losses).__name__}; give a ScoreTable, a tensor with one loss for "
            "each sample, or the file that a run exported"
        )
    if not losses.is_floating_point():
        raise TypeError(
            f"prior_scores have dtype {losses.dtype}; they must be floating point, NaN if unknown"
        )
    if losses.shape != (num_samples,):
        raise ValueError(
            f"{source} have shape {tuple(losses.shape)}, and the dataset has {num_samples:,} samples; "
            "give one for each, in the dataset's order"
        )
    known: FloatArray = losses.detach().to("cpu", torch.float32, copy=True).numpy()
    if not torch.from_numpy(known).isfinite().any():
        raise ValueError(
            f"{source} are all NaN or infinite, so that nothing is known; give finite losses, or leave "
            "prior_scores out"
        )
    return known, None if norms is None else norms.numpy().copy()
