"""Strata by the rank of the loss: ties, samples without a score, and what they can leave out."""

import re

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers import keep_probabilities, random_losses
from infobatch import InfoBatch
from infobatch.policies import PercentileTiers
from infobatch.selection import draw

NAN = float("nan")


def test_samples_without_a_score_fill_up_what_the_scored_cannot_give():
    losses = torch.tensor([NAN] * 10 + [1.0] * 10)
    # Those to draw from are the 16 lowest of 20.
    probabilities = keep_probabilities(InfoBatch(0.5), losses, num_pruned=8).per_sample()
    assert (probabilities[10:] == 0.5).all()
    assert int((probabilities[:10] == 0.5).sum()) == 6


@pytest.mark.parametrize("policy", [InfoBatch(0.5), PercentileTiers((0.6,), (0.5,))])
def test_equal_scores_are_pruned_evenly(policy):
    times = torch.zeros(10)
    for seed in range(3000):
        times += keep_probabilities(policy, torch.ones(10), num_pruned=2, seed=seed).per_sample() < 1
    assert ((times / 3000 - 0.4).abs() < 5 * (0.4 * 0.6 / 3000) ** 0.5).all()


def test_ties_at_the_bound_do_not_reach_below_it():
    losses = [1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0]
    picked = torch.zeros(7)
    for seed in range(3000):
        picked += keep_probabilities(InfoBatch(0.5), losses, num_pruned=2, seed=seed).per_sample() < 1
    assert picked[[0, 1, 6]].tolist() == [3000, 3000, 0]
    assert ((picked[2:6] / 3000 - 0.5).abs() < 5 * (0.25 / 3000) ** 0.5).all()


def refusal(policy, num_pruned, num_samples):
    with pytest.raises(ValueError, match="the target leaves out") as caught:
        policy.check_target(num_pruned, num_samples)
    return str(caught.value)


@settings(deadline=None)
@given(num_samples=st.integers(2, 20_000), share=st.floats(0.01, 1, exclude_max=True))
def test_the_smallest_ratio_that_is_named_meets_the_target(num_samples, share):
    num_pruned = max(1, int(share * num_samples))
    assume(num_pruned < num_samples)
    message = refusal(InfoBatch(0), num_pruned, num_samples)
    named = float(re.search(r"meets it is ([\d.]+);", message)[1])
    InfoBatch(named).check_target(num_pruned, num_samples)


@pytest.mark.parametrize(
    "policy",
    [
        *(InfoBatch(ratio) for ratio in (0.29, 0.5, 0.57, 0.7)),
        *(PercentileTiers(*t) for t in ([], ((0.5,), (0.3,)), ((1.0,), (0.5,)))),
    ],
    ids=repr,
)
@pytest.mark.parametrize("num_samples", [10, 100, 203, 1000])
def test_the_most_that_is_named_is_the_most_that_is_accepted(policy, num_samples):
    named = re.search(r"at most ([\d,]+)\.", refusal(policy, num_samples - 1, num_samples))[1]
    most = int(named.replace(",", ""))
    policy.check_target(most, num_samples)
    refusal(policy, most + 1, num_samples)
    kept = keep_probabilities(policy, random_losses(num_samples), most)
    assert draw(kept, torch.Generator()).num_selected == num_samples - most
