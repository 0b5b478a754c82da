"""OrderDP (ICLR 2026): the hardest of a random pool."""

from __future__ import annotations

import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request, check_prune_ratio, highest, ones_at
from infobatch.scores.table import ScoreTable


class OrderDP(BiasedPolicy):
    """Draws a random pool, and keeps the share of it with the highest last loss.

    ``prune_ratio``: r in [0, 1), the share of *all* samples left out of an epoch. ``keep``: the share of
    the pool that is kept, in (0, 1]; the pool has (1 - r) N / keep samples, at most all. Weights are 1,
    and it is unbiased only for a surrogate that weighs high losses up. The defaults are those of the
    authors' ImageNet code, a pool of 75 % of which 85 % are kept.
    """

    def __init__(self, prune_ratio: float = 0.3625, keep: float = 0.85) -> None:
        check_prune_ratio(prune_ratio)
        if not 0 < keep <= 1:
            raise ValueError(f"keep is {keep}; it is a share of the pool, above 0 and at most 1")
        self.prune_ratio = float(prune_ratio)
        self.keep = float(keep)

    def __repr__(self) -> str:
        return f"OrderDP(prune_ratio={self.prune_ratio:g}, keep={self.keep:g})"

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_kept = request.num_kept(len(scores), self.prune_ratio)
        num_pooled = min(len(scores), round(num_kept / self.keep))
        pool = torch.randperm(len(scores), generator=request.generator)[:num_pooled].numpy()
        losses = scores["last_loss"].numpy()[pool]
        return ones_at(pool[highest(losses, num_kept, request.generator)], len(scores))
