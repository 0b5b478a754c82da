"""Policies as they are named on the command line."""

from dataclasses import replace

import pytest

from helpers.digits import SCORED
from infobatch import InfoBatch, NoiseBudget
from infobatch.lab.config import policy_spec
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.training.validate import check_config
from infobatch.policies import Proportional


def test_a_policy_takes_options_of_its_own():
    policy = policy_spec.parse_policy("proportional:floor=0.1:by=gradient_norm:ordered=True")
    assert isinstance(policy, Proportional)
    assert (policy.floor, policy.by, policy.ordered) == (0.1, "gradient_norm", True)
    assert policy_spec.parse_policy("infobatch", prune_ratio=0.3).prune_ratio == 0.3


def test_the_prune_ratio_is_the_runs():
    config = TrainConfig(policy="proportional:floor=0.2", prune_ratio=0.4)
    assert policy_spec.make_policy(config).prune_ratio == 0.4
    assert isinstance(policy_spec.make_policy(TrainConfig(policy="infobatch")), InfoBatch)
    assert isinstance(policy_spec.make_policy(TrainConfig()), NoiseBudget)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("proportionl", "no policy 'proportionl'; did you mean proportional"),
        ("proportional:flor=0.1", "no option of proportional 'flor'; did you mean floor"),
        ("proportional:floor", "give its options as NAME:option=value"),
        ("proportional:floor=2", "floor is 2; it is a share"),
        ("proportional:floor=low", "but its floor is 'low'; give a number"),
        ("neyman:strata=abc", "but its strata is 'abc'; give a number"),
        ("el2n:keep=3", "no option of el2n 'keep'"),
        ("el2n:scores=3", "its scores come from the data set"),
        ("selective-backprop", "--policy none --backward-share"),
        ("infobatch:prune_ratio=0.3", "its ratio is what --prune-ratio gives, or in a contest --save"),
    ],
)
def test_a_bad_spec_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        check_config(TrainConfig(policy=spec))


def test_labels_cannot_be_typed():
    with pytest.raises(ValueError, match="its labels come from the data set, leave them out"):
        check_config(replace(SCORED, policy="rcap:labels=3"))
    check_config(replace(SCORED, policy="rcap:beta=2"))
