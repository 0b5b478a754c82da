"""Statistics of the numbers that a run has for each sample: its scores and its visits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infobatch.lab.runs.records import SCORE_QUANTILES


def score_quantiles(scores: Tensor) -> list[float | None]:
    """Compute quantiles of the scores that there are.

    Args:
        scores: (N,), NaN for samples without one.

    Returns:
        A quantile for each of ``SCORE_QUANTILES``, or None for each where no sample has a score.
    """
    known = scores[~scores.isnan()]
    if not len(known):
        return [None] * len(SCORE_QUANTILES)
    return [*quantiles(known, SCORE_QUANTILES)]


def quantiles(values: Tensor, shares: Sequence[float]) -> list[float]:
    """Compute quantiles, of millions of values by every few of them.

    Args:
        values: (N,).
        shares: The shares of the values that lie below the quantiles, each in [0, 1].

    Returns:
        A quantile for each share.
    """
    part = values[:: max(1, len(values) // 1_000_000)]  # torch.quantile takes at most 2**24
    return [float(q) for q in part.quantile(torch.tensor(shares, dtype=part.dtype))]


def class_balance(members: tuple[Tensor, Tensor] | None, visits: Tensor) -> list[float]:
    """Compare how often the samples of each class were trained.

    Args:
        members: Which samples have which class, int64 (M,) each; None without classes.
        visits: How often each sample was trained, (N,).

    Returns:
        The lowest and the highest of the classes' mean visits, over the mean of all samples; empty
        without classes.
    """
    if members is None:
        return []
    indices, classes = members
    sizes = classes.bincount()
    shares = (classes.bincount(visits[indices]) / sizes)[sizes > 0] / visits.mean()
    return [float(shares.min()), float(shares.max())]
