"""RS2 (ICLR 2024): all samples in turn, a part of them in each epoch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from infobatch.policies.base import BiasedPolicy, Request
from infobatch.policies.options import take_prune_ratio
from infobatch.policies.ranking import highest, ones_at
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class RS2(BiasedPolicy):
    """Keeps the samples that were trained least often, equal ones at random.

    Successive epochs thus take the parts of a random permutation of all samples. All weights are 1. A
    sample that was just trained has no chance in the next epoch; over a whole permutation each sample is
    trained equally often.

    Args:
        prune_ratio: The share of *all* samples that an epoch leaves out, in [0, 1); 0.5 as for
            :class:`RandomPruning`.

    Source: Okanovic et al., Repeated Random Sampling, ICLR 2024, section 3, without replacement.
    """

    columns = ("visits",)

    prune_ratio: float = 0.5

    def __post_init__(self) -> None:
        take_prune_ratio(self)

    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        num_kept = request.num_kept(len(scores), self.prune_ratio)
        fewest = highest(-scores["visits"].numpy(), num_kept, request.generator)
        return ones_at(fewest, len(scores))
