"""Groups of samples are kept or left out whole, whatever a policy decides about their means."""

from __future__ import annotations

import math
from dataclasses import InitVar, dataclass, field, replace

import numpy as np
import torch

from infobatch.batching import ANY_SIZE
from infobatch.policies.base import KeepProbabilities, Policy, Request, check_some_are_kept
from infobatch.policies.infobatch import InfoBatch
from infobatch.policies.options import check_divides, set_fields
from infobatch.policies.per_sample import Numbers, classes_of
from infobatch.policies.wrapper import Wrapper
from infobatch.scores.columns import IndexArray
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class WholeGroups(Wrapper):
    """Asks a policy about groups, each with the mean scores of its samples, and keeps a group or not.

    For batches that are made of groups, such as those of P identities with K images each: of an identity
    that is trained no image is missing. All samples of a group have one weight. A target is met as
    closely as whole groups allow.

    Args:
        labels: The group of each sample, integers (N,).
        policy: An unbiased policy that needs no labels; :class:`InfoBatch` by default.
    """

    labels: InitVar[Numbers | None] = None
    policy: Policy = None  # type: ignore[assignment]  # by default made in __post_init__
    num_samples: int = field(init=False, repr=False)
    group_of: IndexArray = field(init=False, repr=False)
    num_groups: int = field(init=False)

    def __post_init__(self, labels: Numbers | None) -> None:
        policy = InfoBatch() if self.policy is None else self.policy
        check_divides(policy, "about groups", "InfoBatch()")
        if policy.estimates_norms or policy.max_noise is not None:
            raise ValueError(
                f"policy is {policy!r}, which needs the norm of a whole group's gradient, and only "
                "those of single samples are known; give a policy that goes by losses, such as "
                "InfoBatch()"
            )
        groups = classes_of(labels, "WholeGroups")
        self._wrap(policy, num_samples=len(groups), group_of=groups, shrinks="steps")
        set_fields(self, num_groups=int(groups.max(initial=-1)) + 1)

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        asked = replace(request, num_pruned=None, epoch_sizes=ANY_SIZE)
        if request.num_pruned is not None:
            asked = replace(asked, num_pruned=self._groups_pruned(request.num_pruned))
        kept = self.policy.keep_probabilities(scores.means_of(self.group_of, self.num_groups), asked)
        return replace(kept, groups=torch.from_numpy(self.group_of))

    def _groups_pruned(self, num_pruned: int) -> int:
        """How many groups make up so many samples; at least one is kept."""
        return min(round(num_pruned * self.num_groups / self.num_samples), self.num_groups - 1)

    def check_multiple(self, multiple: int) -> None:
        sizes = np.bincount(self.group_of)
        if multiple > 1 and (sizes != sizes[0]).any():
            raise ValueError(
                f"groups have {sizes.min()} to {sizes.max()} samples, so that those kept do not fill "
                f"batches of {multiple}, and the loader drops a last short one; leave out drop_last"
            )
        fewest = math.lcm(multiple, int(sizes[0]))
        if multiple > 1 and fewest > self.num_samples:
            raise ValueError(
                f"groups of {sizes[0]} fill whole batches of {multiple} only by {fewest:,} samples, and "
                f"there are {self.num_samples:,}; leave out drop_last, or take another batch size"
            )

    def leaves_out_exactly(self, num_pruned: int) -> bool:
        sizes = np.bincount(self.group_of)
        return bool((sizes == sizes[0]).all()) and num_pruned % int(sizes[0]) == 0

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_some_are_kept(num_pruned, num_samples)
        self._check_target_within(self._groups_pruned(num_pruned), self.num_groups, "the groups")
