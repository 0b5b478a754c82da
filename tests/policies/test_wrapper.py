"""What runs ask of policies, a policy around another one answers as that does."""

import numpy as np
import pytest
import torch

from helpers import Numbers, train_epoch
from infobatch import DynamicPruner, Spaced
from infobatch.policies import ClassQuotas, KeepProbabilities, Policy, Protected, WholeGroups


class Asked(Policy):
    """A policy of one's own that answers nothing as policies do by default."""

    columns = ("smoothed_loss",)
    refreshes = True
    takes_sizes = True
    default_delta = 0.5

    def keep_probabilities(self, scores, request):
        return KeepProbabilities.equal(0.5, len(scores))

    def check_multiple(self, multiple):
        if multiple > 1:
            raise ValueError("no multiples")

    def leaves_out_exactly(self, num_pruned):
        return False

    def check_target(self, num_pruned, num_samples):
        pass


LABELS = np.arange(40) // 2
WRAPPED = [
    Spaced(Asked()),
    Protected(Asked(), LABELS < 3),
    ClassQuotas(LABELS, Asked()),
    WholeGroups(LABELS, Asked()),
]


@pytest.mark.parametrize("policy", WRAPPED, ids=lambda policy: type(policy).__name__)
def test_a_policy_is_taken_as_the_one_within(policy):
    for name in ("refreshes", "takes_sizes", "default_delta", "estimates_norms", "max_noise"):
        assert getattr(policy, name) == getattr(Asked(), name), name
    assert policy.columns[0] == "smoothed_loss"
    pruner = DynamicPruner(Numbers(40), 3, policy=policy)
    loader = pruner.loader(10)
    epochs = pruner.epochs()
    for _ in range(2):
        next(epochs)
        train_epoch(pruner, loader, torch.rand(40))
    with pytest.raises(RuntimeError, match="goes by the losses of all samples, and those of"):
        next(epochs)


@pytest.mark.parametrize("policy", WRAPPED[:3], ids=lambda policy: type(policy).__name__)
def test_what_the_one_within_cannot_do_is_told(policy):
    assert not policy.leaves_out_exactly(10)
    with pytest.raises(ValueError, match="no multiples"):
        policy.check_multiple(10)
