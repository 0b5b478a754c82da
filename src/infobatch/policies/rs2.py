"""Repeated random sampling without replacement across epochs."""

from __future__ import annotations

from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request, check_prune_ratio, highest, ones_at
from infobatch.scores.table import ScoreTable


class RS2(BiasedPolicy):
    """Each epoch takes the samples trained least often, equal ones at random, until all had their turn.

    That is a permutation of all samples taken in parts (RS2 without replacement; Okanovic et al., ICLR
    2024, section 3). ``prune_ratio``: r in [0, 1), the share of *all* samples left out of an epoch.
    Weights are 1. Within an epoch a sample just trained has no chance; over a round of the permutation
    each is trained equally often.
    """

    columns = ("visits",)

    def __init__(self, prune_ratio: float = 0.5) -> None:
        check_prune_ratio(prune_ratio)
        self.prune_ratio = float(prune_ratio)

    def __repr__(self) -> str:
        return f"RS2(prune_ratio={self.prune_ratio:g})"

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_kept = request.num_kept(len(scores), self.prune_ratio)
        fewest = highest(-scores["visits"].numpy(), num_kept, request.generator)
        return ones_at(fewest, len(scores))
