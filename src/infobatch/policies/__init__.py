"""Policies decide what an epoch leaves out: all policies of the library, and the contract for your own.

``POLICIES`` names them for the command line and for the tests that every policy has to pass.
"""

from inspect import signature

from infobatch.policies.allocation import allocate
from infobatch.policies.bandits import UCB, EpsilonGreedy
from infobatch.policies.base import BiasedPolicy, KeepProbabilities, Policy, Request
from infobatch.policies.bls import BLS
from infobatch.policies.class_quotas import ClassQuotas
from infobatch.policies.ies import IES
from infobatch.policies.infobatch import InfoBatch
from infobatch.policies.kakurenbo import Kakurenbo
from infobatch.policies.neyman import Neyman
from infobatch.policies.no_pruning import NoPruning
from infobatch.policies.noise_budget import NoiseBudget
from infobatch.policies.order_dp import OrderDP
from infobatch.policies.percentile_tiers import PercentileTiers
from infobatch.policies.proportional import Proportional
from infobatch.policies.protected import Protected
from infobatch.policies.random_pruning import RandomPruning
from infobatch.policies.rcap import RCAP
from infobatch.policies.repb import RePB
from infobatch.policies.rs2 import RS2
from infobatch.policies.seta import SeTa
from infobatch.policies.spaced import Spaced
from infobatch.policies.static import Static
from infobatch.policies.undersampling import Undersampling
from infobatch.policies.whole_groups import WholeGroups

POLICIES: dict[str, type[Policy]] = {
    "infobatch": InfoBatch,
    "percentile-tiers": PercentileTiers,
    "proportional": Proportional,
    "neyman": Neyman,
    "noise-budget": NoiseBudget,
    "spaced": Spaced,
    "class-quotas": ClassQuotas,
    "undersampling": Undersampling,
    "bls": BLS,
    "random": RandomPruning,
    "rs2": RS2,
    "epsilon-greedy": EpsilonGreedy,
    "ucb": UCB,
    "seta": SeTa,
    "order-dp": OrderDP,
    "repb": RePB,
    "kakurenbo": Kakurenbo,
    "ies": IES,
    "rcap": RCAP,
    "forgetting": Static,
    "el2n": Static,
    "grand": Static,
    "none": NoPruning,
}
"""Every policy by its name on the command line, where ``labels`` are those of the dataset. Static
pruning has a name for each kind of ``scores`` that it can be given."""

WRAPPERS: dict[str, type[Policy]] = {"protected": Protected, "whole-groups": WholeGroups}
"""Policies around another one that need more than a name and options: a mask of samples, or their
groups."""

DEFAULT = "noise-budget"
"""The policy of a run that names none; docs/choosing-a-policy.md gives the reasons for both."""

DEFAULT_FOR_TARGET = "spaced"
"""The policy of a run with a target that names none."""


def default_policy(meets_target: bool, needs_strata: bool) -> Policy:
    """The policy of a run that names none.

    Args:
        meets_target: Whether the run has a target.
        needs_strata: Whether the policy has to go by bounds of strata, as the paper's does, for no rank
            has the scores of all samples.
    """
    if needs_strata:
        return InfoBatch()
    return POLICIES[DEFAULT_FOR_TARGET if meets_target else DEFAULT]()


def default_delta(policy: Policy | type[Policy], meets_target: bool) -> float:
    """The share of a run after which all data is used again, in [0, 1], where the run does not say.

    With a target it is 1. The target counts the last epochs, too: where they train on all data, the
    others have to leave out more.

    Args:
        policy: The policy, or its class.
        meets_target: Whether the run has a target.
    """
    return 1.0 if meets_target else policy.default_delta


def takes(name: str, option: str) -> bool:
    """Whether a policy has an option.

    Args:
        name: The policy's name in ``POLICIES``.
        option: The option's name, such as ``"labels"``.
    """
    return option in signature(POLICIES[name]).parameters


__all__ = [
    "BLS",
    "DEFAULT",
    "DEFAULT_FOR_TARGET",
    "IES",
    "POLICIES",
    "RCAP",
    "RS2",
    "UCB",
    "WRAPPERS",
    "BiasedPolicy",
    "ClassQuotas",
    "EpsilonGreedy",
    "InfoBatch",
    "Kakurenbo",
    "KeepProbabilities",
    "Neyman",
    "NoPruning",
    "NoiseBudget",
    "OrderDP",
    "PercentileTiers",
    "Policy",
    "Proportional",
    "Protected",
    "RandomPruning",
    "RePB",
    "Request",
    "SeTa",
    "Spaced",
    "Static",
    "Undersampling",
    "WholeGroups",
    "allocate",
    "default_delta",
    "default_policy",
    "takes",
]
