"""Some samples are kept in every epoch, whatever policy decides on the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from infobatch.policies.base import BiasedPolicy, KeepProbabilities, Policy, Request
from infobatch.policies.per_sample import as_array
from infobatch.scores.columns import IndexArray
from infobatch.scores.table import ScoreTable


class Protected(Policy):
    """Keeps some samples, with weight 1, and asks a policy for the others alone.

    So samples that are few, and yet well learned, such as the only images of a rare class, are seen in
    every epoch. ``policy``: an unbiased one; it knows of the others only, and leaves out of them all
    that a target asks for. ``samples``: bool (N,), true for those to keep. Where the loader drops a last
    short batch, and the others are too few to fill it or to stay out, some of those are dropped, as they
    are from unpruned epochs.
    """

    def __init__(self, policy: Policy, samples: Tensor | np.ndarray) -> None:
        if not isinstance(policy, Policy):
            raise TypeError(f"policy is {policy!r}; give an object such as InfoBatch()")
        if isinstance(policy, BiasedPolicy) or policy.num_samples is not None:
            raise ValueError(
                f"policy is {policy!r}, which cannot be asked for some of the samples alone; give an "
                "unbiased one that needs no labels, such as InfoBatch()"
            )
        mask = as_array(samples, "samples to keep")
        if mask.dtype.kind != "b":
            raise TypeError(
                f"the samples to keep have dtype {mask.dtype}; give bool, one a sample, in the "
                "dataset's order"
            )
        self.policy = policy
        self.kept: IndexArray = np.flatnonzero(mask)
        self.others: IndexArray = np.flatnonzero(~mask)
        self.num_samples = len(mask)
        self.columns = policy.columns

    def __repr__(self) -> str:
        return f"Protected({self.policy!r}, {len(self.kept):,} samples)"

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        if len(self.others) == 0:
            return KeepProbabilities(torch.ones(len(scores), dtype=torch.float64))
        asked = replace(request, multiple=1)  # the draw makes one of the number of all
        of_others = self.policy.keep_probabilities(scores.part(self.others), asked)
        if of_others.strata is not None:
            return self._with_stratum(of_others.probabilities, of_others.strata)
        probabilities = torch.ones(len(scores), dtype=torch.float64)
        probabilities[self.others] = of_others.probabilities.to(torch.float64)
        order = None
        if of_others.order is not None:
            placed = np.concatenate([self.others[of_others.order.numpy()], self.kept])
            order = torch.from_numpy(placed)
        return KeepProbabilities(probabilities, order=order)

    def _with_stratum(self, probabilities: Tensor, strata: Tensor) -> KeepProbabilities:
        """The strata of the others, and one more that is kept whole."""
        num_samples = len(self.kept) + len(self.others)
        all_strata = torch.full((num_samples,), len(probabilities), dtype=torch.uint8)
        all_strata[self.others] = strata
        ones = torch.ones(1, dtype=torch.float64)
        return KeepProbabilities(torch.cat([probabilities.to(torch.float64), ones]), all_strata)

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        num_others = len(self.others)
        if num_pruned and num_pruned >= num_others:
            raise ValueError(
                f"the target leaves out {num_pruned:,} of {num_samples:,} samples in an epoch, but "
                f"{len(self.kept):,} are always kept, and of the other {num_others:,} at least one; "
                "lower the target, or keep fewer"
            )
        try:
            self.policy.check_target(num_pruned, num_others)
        except ValueError as error:
            raise ValueError(f"of the samples that are not always kept, {error}") from error
