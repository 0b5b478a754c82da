"""The registry names the policies for the command line and the generic tests."""

from inspect import signature

from infobatch.policies.bandits import UCB, EpsilonGreedy
from infobatch.policies.base import BiasedPolicy, KeepProbabilities, Policy, Request
from infobatch.policies.bls import BLS
from infobatch.policies.class_quotas import ClassQuotas
from infobatch.policies.ies import IES
from infobatch.policies.infobatch import InfoBatch
from infobatch.policies.kakurenbo import Kakurenbo
from infobatch.policies.neyman import Neyman
from infobatch.policies.no_pruning import NoPruning
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

POLICIES: dict[str, type[Policy]] = {
    "infobatch": InfoBatch,
    "percentile-tiers": PercentileTiers,
    "proportional": Proportional,
    "neyman": Neyman,
    "spaced": Spaced,
    "class-quotas": ClassQuotas,
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
"""Those that ask for ``labels`` are given the data set's; of static pruning the name says which
``scores`` it is given."""

WRAPPERS: dict[str, type[Policy]] = {"protected": Protected}
"""Those that say of a policy, and of samples given with it, what names and options alone cannot."""

RECOMMENDED = "spaced"
"""For a saving that is to be met: see docs/choosing-a-policy.md."""

BELOW_MEAN = ("infobatch", "bls")
"""Policies whose prune ratio is of the samples below the mean, and has a say beside a target, too."""


def default_policy(meets_target: bool) -> Policy:
    """The paper's, or where a number to leave out is to be met the recommended one."""
    return POLICIES[RECOMMENDED]() if meets_target else InfoBatch()


def takes(name: str, option: str) -> bool:
    """Whether the policy of this name is made with an option of that name."""
    return option in signature(POLICIES[name]).parameters


def has_prune_ratio(name: str) -> bool:
    """Whether the policy of this name takes a prune ratio."""
    return takes(name, "prune_ratio")


__all__ = [
    "BELOW_MEAN",
    "BLS",
    "IES",
    "POLICIES",
    "RCAP",
    "RECOMMENDED",
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
    "default_policy",
    "has_prune_ratio",
    "takes",
]
