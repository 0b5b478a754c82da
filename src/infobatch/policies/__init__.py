"""One file a policy. The registry names them for the command line and the generic tests."""

from infobatch.policies.base import KeepProbabilities, Policy
from infobatch.policies.infobatch import InfoBatch
from infobatch.policies.no_pruning import NoPruning
from infobatch.policies.percentile_tiers import PercentileTiers
from infobatch.policies.random_pruning import RandomPruning

POLICIES: dict[str, type[Policy]] = {
    "infobatch": InfoBatch,
    "percentile-tiers": PercentileTiers,
    "random": RandomPruning,
    "none": NoPruning,
}

__all__ = [
    "POLICIES",
    "InfoBatch",
    "KeepProbabilities",
    "NoPruning",
    "PercentileTiers",
    "Policy",
    "RandomPruning",
]
