"""Some samples are kept in every epoch, whatever a policy decides about the others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from infobatch.batching import ANY_SIZE
from infobatch.policies.base import KeepProbabilities, Policy, Request
from infobatch.policies.options import check_divides, set_fields
from infobatch.policies.per_sample import mask_of
from infobatch.policies.spaced import Spaced
from infobatch.policies.wrapper import Wrapper
from infobatch.scores.columns import IndexArray
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class Protected(Wrapper):
    """Keeps some samples in every epoch, with weight 1, and asks a policy about the others alone.

    Few samples that matter much, such as the only images of a rare class, are thus never left out, even
    when they are well learned. Where the loader drops a last short batch, and the other samples are too
    few to fill it or to be left out in its place, some protected samples are dropped, as they are from
    unpruned epochs.

    Args:
        policy: An unbiased policy that needs no labels. It knows only the other samples, and all that a
            target leaves out is left out of them.
        kept: Which samples are always kept, bool (N,).
    """

    policy: Policy
    kept: Tensor | np.ndarray = field(repr=False)
    num_kept: int = field(init=False)
    """The number of samples that are always kept."""
    num_samples: int = field(init=False, repr=False)
    others: IndexArray = field(init=False, repr=False)
    """The indices of the samples that the policy decides about, in rising order."""

    def __post_init__(self) -> None:
        policy = self.policy
        if isinstance(policy, Spaced):
            raise ValueError(
                f"policy is {policy!r}, whose visits would not be counted; space those of the whole "
                "policy: Spaced(Protected(Neyman(), kept))"
            )
        check_divides(policy, "for some of the samples alone", "InfoBatch()")
        kept = mask_of(self.kept)
        others = np.flatnonzero(~kept)
        self._wrap(policy, num_samples=len(kept))
        set_fields(self, kept=kept, others=others, num_kept=len(kept) - len(others))

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        probabilities = torch.ones(len(scores), dtype=torch.float64)
        if len(self.others) == 0:
            return KeepProbabilities(probabilities)
        # The draw makes the number of all samples a multiple, and large enough.
        asked = replace(request, epoch_sizes=ANY_SIZE)
        of_others = self.policy.keep_probabilities(scores.part(self.others), asked)
        if of_others.strata is not None and of_others.credit is None:
            return self._with_stratum(of_others.probabilities, of_others.strata)
        probabilities[self.others] = of_others.per_sample()
        order = None
        if of_others.order is not None:
            placed = np.concatenate([self.others[of_others.order.numpy()], np.flatnonzero(self.kept)])
            order = torch.from_numpy(placed)
        return KeepProbabilities(probabilities, order=order)

    def _with_stratum(self, probabilities: Tensor, strata: Tensor) -> KeepProbabilities:
        """The strata of the others, and one more that is kept whole."""
        all_strata = torch.full((len(self.kept),), len(probabilities), dtype=torch.uint8)
        all_strata[self.others] = strata
        ones = torch.ones(1, dtype=torch.float64)
        return KeepProbabilities(torch.cat([probabilities.to(torch.float64), ones]), all_strata)

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        num_others = len(self.others)
        if num_pruned and num_pruned >= num_others:
            raise ValueError(
                f"the target leaves out {num_pruned:,} of {num_samples:,} samples in an epoch, but "
                f"{self.num_kept:,} are always kept, and of the other {num_others:,} at least one; "
                "lower the target, or keep fewer"
            )
        self._check_target_within(num_pruned, num_others, "the samples that are not always kept")
