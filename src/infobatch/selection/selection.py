"""The samples of an epoch, with their weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """The samples of one epoch, with their weights.

    The number of samples of each class in it is ``labels[selection.indices].bincount()``.

    Args:
        weights: Weight of each sample, float32 (N,): 0 where left out, above 0 where selected; of
            unbiased policies at least 1 there.
        num_selected: Number of samples selected.
        credit: Visits that each sample is owed after this epoch, (N,), where the draw counts them; else
            None.
    """

    weights: Tensor
    num_selected: int
    credit: Tensor | None = None

    @property
    def indices(self) -> Tensor:
        """The selected samples in rising order, int64 (num_selected,)."""
        return self.weights.nonzero().flatten()

    @property
    def effective_share(self) -> float:
        """Number of equally weighted samples that it is worth, as a share of those selected, in (0, 1].

        It is (sum w)^2 / (n sum w^2), and 1 where all weights are equal.

        Source: Kish, *Survey Sampling*, 1965, section 11.7.
        """
        weights = self.weights.to(torch.float64)
        return float(weights.sum() ** 2 / (self.num_selected * weights.square().sum()))

    @classmethod
    def of(cls, weights: Tensor) -> Selection:
        """The selection with these weights, float32 (N,)."""
        return cls(weights, int(weights.count_nonzero()))

    @classmethod
    def full(cls, num_samples: int) -> Selection:
        """All samples, with weight 1."""
        return cls(torch.ones(num_samples, dtype=torch.float32), num_samples)
