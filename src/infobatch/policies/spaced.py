"""Visits spaced evenly over the epochs, whatever policy says how often they are due."""

from __future__ import annotations

import torch

from infobatch.policies.base import BiasedPolicy, KeepProbabilities, Policy, Request, check_prune_ratio
from infobatch.policies.neyman import Neyman
from infobatch.scores.table import ScoreTable


class Spaced(Policy):
    """Keeps as ``policy`` says, but a sample left out of one epoch has its turn the sooner.

    Each epoch a sample is owed its keep probability p more, and those owed most are trained, which takes
    1 off. So over any stretch of epochs a sample is trained as often as its probabilities sum to, to
    about one visit, where independent draws leave some out by chance for many epochs on end. Weights are
    1 / p as before, and over what is random before the first draw a sample's chance in each epoch is p;
    given the epochs before, it is settled. ``policy``: an unbiased one, by default ``Neyman()``.
    ``prune_ratio``: that of the default.
    """

    def __init__(self, policy: Policy | None = None, prune_ratio: float = 0.35) -> None:
        check_prune_ratio(prune_ratio)
        policy = Neyman(prune_ratio) if policy is None else policy
        if not isinstance(policy, Policy):
            raise TypeError(f"policy is {policy!r}; give an object such as Neyman()")
        if isinstance(policy, (BiasedPolicy, Spaced)):
            raise ValueError(
                f"policy is {policy!r}, which has no keep probabilities to space visits by; give an "
                "unbiased one, such as Neyman()"
            )
        self.policy = policy
        self.num_samples = policy.num_samples
        self.columns = (*policy.columns, "credit")

    def __repr__(self) -> str:
        return f"Spaced({self.policy!r})"

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        kept = self.policy.keep_probabilities(scores, request)
        probabilities = kept.per_sample()
        return KeepProbabilities(probabilities, credit=scores["credit"].to(torch.float64))

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        self.policy.check_target(num_pruned, num_samples)
