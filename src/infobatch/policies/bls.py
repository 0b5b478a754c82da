"""BLS (CVPR 2026): the paper's rule where only the loss of a whole batch is known."""

from __future__ import annotations

from dataclasses import dataclass

from infobatch.policies.base import KeepProbabilities, Policy, Request
from infobatch.policies.options import check_prune_ratio, use_plain_numbers
from infobatch.policies.ranking import check_lowest_suffice, prune_below_mean
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class BLS(Policy):
    """As :class:`InfoBatch`, by the smoothed mean loss of the batches that a sample was in.

    It serves losses that exist for a whole batch only. Give that loss to every sample of the batch:
    ``pruner.update(loss.repeat(len(indices)), indices)``. Here each sample's loss has the sample's own
    weight; the authors multiply a batch's loss by the batch's mean weight, which is the same only if all
    losses of the batch are equal.

    Args:
        prune_ratio: The share of the *below-average* samples that an epoch leaves out, in [0, 1); 0.5 as
            for :class:`InfoBatch`.

    Source: Batch Loss Score, CVPR 2026, by its authors' code.
    """

    columns = ("batch_loss",)

    prune_ratio: float = 0.5

    def __post_init__(self) -> None:
        check_prune_ratio(self.prune_ratio)
        use_plain_numbers(self)

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        return prune_below_mean(scores["batch_loss"], self.prune_ratio, request)

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_lowest_suffice(self, self.prune_ratio, num_pruned, num_samples)
