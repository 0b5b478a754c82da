"""Budgets of gradient noise, as they are typed and as a run keeps to them."""

import pytest

from infobatch.lab.config.noise_budget import budget_of, with_budget, with_budgets, without_budget
from infobatch.lab.config.pruned_epochs import delta_of
from infobatch.lab.config.train import TrainConfig


def test_a_budget_is_an_option_of_the_policy():
    assert with_budget("noise-budget", 1.1) == "noise-budget:max_noise=1.1"
    assert with_budget("noise-budget:floor=0.1", 2) == "noise-budget:floor=0.1:max_noise=2"
    assert without_budget("noise-budget:floor=0.1:max_noise=2") == ("noise-budget:floor=0.1", 2)
    assert without_budget("noise-budget") == ("noise-budget", 1.1)
    assert without_budget("rcap") == ("rcap", None)


@pytest.mark.parametrize(
    ("policy", "delta", "share"),
    [
        ("noise-budget:max_noise=1.2", None, 1.0),
        ("noise-budget", 0.9, 0.9),
        ("spaced:policy=noise-budget", None, 1.0),
        ("infobatch", None, 0.875),
        ("none", None, 0.875),
        ("selective-backprop", None, 0.875),
    ],
)
def test_a_budget_does_not_anneal(policy, delta, share):
    assert delta_of(TrainConfig(policy=policy, delta=delta)) == share


@pytest.mark.parametrize(("delta", "share"), [(None, 1.0), (0.875, 0.875)])
def test_with_a_target_no_policy_does(delta, share):
    assert delta_of(TrainConfig(policy="infobatch", target=0.3, delta=delta)) == share


def test_each_budget_makes_one_more_policy():
    specs = with_budgets(["random", "noise-budget"], [1.05, 1.5])
    assert specs == ["random", "noise-budget:max_noise=1.05", "noise-budget:max_noise=1.5"]
    assert with_budgets(["noise-budget"], []) == ["noise-budget"]


@pytest.mark.parametrize(
    ("policy", "noise", "message"),
    [
        ("infobatch", 1.1, "--noise is 1.1, but the policy infobatch has no budget of noise; leave it"),
        (
            "noise-budget",
            1.0,
            r"--noise is 1; .* above 1 \(at 1 nothing could be left out\), such as 1.1",
        ),
        ("noise-budget", float("inf"), "--noise is inf"),
        ("noise-budget:max_noise=1.2", 1.1, "has its own; give one of them"),
    ],
)
def test_a_budget_that_says_nothing_is_refused(policy, noise, message):
    with pytest.raises(ValueError, match=message):
        with_budget(policy, noise)


def test_budgets_need_a_policy_that_has_one():
    with pytest.raises(ValueError, match=r"--noise is 1\.1,1\.5, and none of the policies infobatch"):
        with_budgets(["infobatch", "rs2"], [1.1, 1.5])


def test_a_run_keeps_to_a_budget_where_no_target_says_what_is_left_out():
    assert budget_of(TrainConfig(policy="noise-budget:max_noise=1.3")) == 1.3
    assert budget_of(TrainConfig(policy="noise-budget", target=0.3)) is None
    assert budget_of(TrainConfig()) == 1.1
    assert budget_of(TrainConfig(policy="infobatch")) is None
    assert budget_of(TrainConfig(policy="rcap")) is None
