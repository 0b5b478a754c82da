"""Every class keeps the same share, whatever a policy decides within it."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field, replace

import numpy as np
import torch

from infobatch.batching import ANY_SIZE
from infobatch.policies.allocation import SMALLEST, allocate, whole
from infobatch.policies.base import KeepProbabilities, Policy, Request, check_some_are_kept
from infobatch.policies.options import check_divides, set_fields
from infobatch.policies.per_sample import Numbers, check_every_class_is_kept, classes_of, members_of
from infobatch.policies.proportional import Proportional
from infobatch.policies.wrapper import Wrapper
from infobatch.scores.columns import IndexArray
from infobatch.scores.table import ScoreTable

ROUNDING = 1e-6
"""A sum of probabilities may differ by this from the number that it stands for."""


@dataclass(frozen=True, eq=False)
class ClassQuotas(Wrapper):
    """Asks a policy about each class alone, and keeps the same share of each, to within one sample.

    A sample is thus compared with those of its own class, and a hard class is not kept whole at the cost
    of an easy one. At least one sample of each class is kept.

    Args:
        labels: The class of each sample, integers (N,).
        policy: An unbiased policy that needs no labels and has no budget of noise; ``Proportional()`` by
            default. Without a target it also decides how many samples are kept in all.
    """

    labels: InitVar[Numbers | None] = None
    policy: Policy = None  # type: ignore[assignment]  # by default made in __post_init__
    num_samples: int = field(init=False, repr=False)
    members: list[IndexArray] = field(init=False, repr=False)
    """The indices of the samples of each class."""
    counts: IndexArray = field(init=False, repr=False)
    """The number of samples of each class, int64 (C,)."""

    def __post_init__(self, labels: Numbers | None) -> None:
        policy = Proportional() if self.policy is None else self.policy
        check_divides(policy, "for each class alone", "Proportional()")
        if policy.max_noise is not None:
            raise ValueError(
                f"policy is {policy!r}, whose budget of noise is not kept where each class keeps the "
                "same share; give another, such as Proportional(), or NoiseBudget(None) with a target"
            )
        members = members_of(classes_of(labels, "ClassQuotas"))
        counts = np.array([len(indices) for indices in members])
        self._wrap(policy, num_samples=int(counts.sum()))
        set_fields(self, members=members, counts=counts)

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        left_out: list[int | None] = [None] * len(self.members)
        if request.num_pruned is not None:
            quotas = self._quotas(len(scores) - request.num_pruned, request)
            self._check_quotas(quotas)
            left_out = [*(self.counts - quotas).tolist()]
        asked = [replace(request, num_pruned=num, epoch_sizes=ANY_SIZE) for num in left_out]
        kept = [
            self.policy.keep_probabilities(scores.part(members), each)
            for members, each in zip(self.members, asked, strict=True)
        ]
        shares = [each.per_sample().numpy() for each in kept]
        if request.num_pruned is None:
            quotas = self._quotas(round(sum(map(np.sum, shares))), request)
        probabilities = np.empty(len(scores))
        for members, share, quota in zip(self.members, shares, quotas.tolist(), strict=True):
            fits = abs(share.sum() - quota) < ROUNDING  # as under a target
            probabilities[members] = share if fits else allocate(share, quota, SMALLEST)
        return KeepProbabilities(torch.from_numpy(probabilities), order=self._order(kept, request))

    def _order(self, kept: list[KeepProbabilities], request: Request) -> torch.Tensor:
        """Class after class, so that the draw keeps exactly as many of each as its quota."""
        orders = [
            torch.randperm(len(members), generator=request.generator) if own.order is None else own.order
            for members, own in zip(self.members, kept, strict=True)
        ]
        placed = [members[order.numpy()] for members, order in zip(self.members, orders, strict=True)]
        return torch.from_numpy(np.concatenate(placed))

    def _quotas(self, num_kept: int, request: Request) -> IndexArray:
        """How many samples of each class to keep, int64 (C,)."""
        total = request.nearest(num_kept, self.num_samples, least=len(self.counts))
        return whole(self.counts * (total / self.num_samples), total, self.counts)

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_some_are_kept(num_pruned, num_samples)
        check_every_class_is_kept(num_pruned, num_samples, len(self.members))
        kept = whole(self.counts * (1 - num_pruned / num_samples), num_samples - num_pruned, self.counts)
        self._check_quotas(kept)

    def _check_quotas(self, quotas: IndexArray) -> None:
        """Raise ``ValueError`` if the policy cannot keep so few, or so many, of each class."""
        for place, (quota, count) in enumerate(zip(quotas.tolist(), self.counts.tolist(), strict=True)):
            self._check_target_within(count - quota, count, f"class number {place}")
