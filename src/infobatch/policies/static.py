"""Static pruning: a subset that is chosen once, by scores from before the run."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field

import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request
from infobatch.policies.options import set_fields, take_prune_ratio
from infobatch.policies.per_sample import Numbers, scores_of
from infobatch.policies.ranking import highest, ones_at
from infobatch.scores.columns import IndexArray
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class Static(BiasedPolicy):
    """Keeps the samples with the highest of given scores, the same ones in every pruned epoch.

    All weights are 1. For a run on the subset alone, set ``warmup_epochs=0`` and ``delta=1``.

    Args:
        scores: Numbers (N,), higher for a harder sample; they may be infinite. Equal ones are ordered at
            random, once and for all.
        prune_ratio: The share of *all* samples that is left out, in [0, 1); 0.5 as for
            :class:`RandomPruning`.

    Source: Toneva et al., ICLR 2019 (forgetting events); Paul et al., NeurIPS 2021 (EL2N and GraNd).
    """

    columns = ()
    given = "scores"

    scores: InitVar[Numbers | None] = None
    prune_ratio: float = 0.5
    num_samples: int = field(init=False, repr=False)
    ranked: IndexArray = field(init=False, repr=False)
    """The indices of all samples, highest score first."""

    def __post_init__(self, scores: Numbers | None) -> None:
        values = scores_of(scores, "Static")
        ranked = highest(values, len(values), torch.Generator().manual_seed(0))
        set_fields(self, num_samples=len(values), ranked=ranked)
        take_prune_ratio(self)

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_kept = request.num_kept(len(scores), self.prune_ratio)
        return ones_at(self.ranked[:num_kept], len(scores))
