"""What a run tells of numbers that it has for each sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infobatch.lab.runs.records import SCORE_QUANTILES


def score_quantiles(losses: Tensor) -> list[float | None]:
    """Of the losses (N,) of samples that have a score."""
    scored = losses[~losses.isnan()]
    if not len(scored):
        return [None] * len(SCORE_QUANTILES)
    return [*quantiles(scored, SCORE_QUANTILES)]


def quantiles(values: Tensor, shares: Sequence[float]) -> list[float]:
    """The quantiles of (a part of) ``values`` (N,)."""
    part = values[:: max(1, len(values) // 1_000_000)]  # torch.quantile takes at most 2**24
    return [float(q) for q in part.quantile(torch.tensor(shares, dtype=part.dtype))]


def class_balance(members: tuple[Tensor, Tensor] | None, visits: Tensor) -> list[float]:
    """The lowest and the highest of the classes' mean ``visits`` (N,), over the mean of all.

    ``members``: which samples have which class, int64 (M,) each; without classes there is no balance.
    """
    if members is None:
        return []
    samples, classes = members
    sizes = classes.bincount()
    shares = (classes.bincount(visits[samples]) / sizes)[sizes > 0] / visits.mean()
    return [float(shares.min()), float(shares.max())]
