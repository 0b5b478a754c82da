"""Visits at even distances over the epochs, as often as another policy asks for."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, replace

from infobatch.policies.base import BiasedPolicy, KeepProbabilities, Policy, Request
from infobatch.policies.neyman import Neyman
from infobatch.policies.options import check_is_policy, check_prune_ratio
from infobatch.policies.wrapper import Wrapper
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True, eq=False)
class Spaced(Wrapper):
    """Keeps samples as often as another policy does, but at even distances.

    Each epoch adds a sample's keep probability p to its credit. The samples with the most credit are
    trained, and each pays 1. Over any stretch of epochs a sample is thus trained as often as its
    probabilities sum to, give or take about one visit, whereas independent draws leave some samples out
    for many epochs in a row by chance.

    Weights are 1 / p, as with the other policy. A sample's chance in each epoch is p over the randomness
    before the first draw; given the epochs before, the selection is fixed.

    Args:
        policy: An unbiased policy; by default :class:`Neyman` with the prune ratio below.
        prune_ratio: That of the default policy, in [0, 1); without effect if a policy is given. The
            default is that of :class:`Neyman`.
    """

    policy: Policy = None  # type: ignore[assignment]  # by default made in __post_init__
    prune_ratio: InitVar[float] = 0.35

    def __post_init__(self, prune_ratio: float) -> None:
        check_prune_ratio(prune_ratio)
        policy = Neyman(prune_ratio) if self.policy is None else self.policy
        check_is_policy(policy, "Neyman()")
        if isinstance(policy, (BiasedPolicy, Spaced)) or policy.group_of is not None:
            raise ValueError(
                f"policy is {policy!r}, which has no keep probabilities of single samples to space "
                "visits by; give an unbiased one that has, such as Neyman()"
            )
        self._wrap(policy, columns=(*policy.columns, "credit"))

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        return replace(self.policy.keep_probabilities(scores, request), credit=scores["credit"])
