"""OrderDP (ICLR 2026): the hardest samples of a random pool."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request
from infobatch.policies.options import check_kinds, take_prune_ratio
from infobatch.policies.ranking import highest, ones_at
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class OrderDP(BiasedPolicy):
    """Draws a random pool, and keeps the samples of it with the highest last loss.

    All weights are 1. The policy is unbiased only for a surrogate loss in which high losses count more.

    Args:
        prune_ratio: r, the share of *all* samples that an epoch leaves out, in [0, 1).
        keep: The share of the pool that is kept, in (0, 1]. The pool has (1 - r) N / keep samples, at
            most all. The defaults, 0.3625 and 0.85, are those of the authors' ImageNet code: a pool of
            75 % of the samples, of which 85 % are kept.

    Source: OrderDP, ICLR 2026, by its authors' ImageNet code.
    """

    prune_ratio: float = 0.3625
    keep: float = 0.85

    def __post_init__(self) -> None:
        check_kinds(self)
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep is {self.keep}; it is a share of the pool, above 0 and at most 1")
        take_prune_ratio(self)

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_kept = request.num_kept(len(scores), self.prune_ratio)
        num_pooled = min(len(scores), round(num_kept / self.keep))
        pool = torch.randperm(len(scores), generator=request.generator)[:num_pooled].numpy()
        losses = scores["last_loss"].numpy()[pool]
        return ones_at(pool[highest(losses, num_kept, request.generator)], len(scores))
