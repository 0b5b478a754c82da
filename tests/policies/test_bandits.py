"""Epsilon-greedy and UCB keep the highest, and a few others."""

import numpy as np
import pytest
import torch

from helpers import table_from
from helpers.policies import chosen
from infobatch.policies import UCB, EpsilonGreedy, OrderDP

NAN = float("nan")


def test_epsilon_greedy_keeps_the_highest_and_a_few_others():
    policy = EpsilonGreedy(0.5, epsilon=0.2)
    table = table_from(torch.arange(20.0), policy)
    others = np.zeros(20)
    for seed in range(400):
        kept = chosen(policy, table, seed=seed)
        assert len(kept) == 10
        assert set(range(12, 20)) <= set(kept)  # the 8 highest
        others[kept] += 1
    assert ((others[:12] / 400 - 2 / 12) < 5 * (2 / 12 * 10 / 12 / 400) ** 0.5).all()
    assert (others[:12] > 0).all()


def test_epsilon_greedy_ranks_by_the_smoothed_loss():
    policy = EpsilonGreedy(0.5, epsilon=0)
    table = table_from([5.0, 1.0, 1.0, 5.0], policy, smoothed_loss=[1.0, 4.0, 3.0, 2.0])
    assert chosen(policy, table) == [1, 2]


def test_ucb_adds_what_is_little_known():
    policy = UCB(0.5, c=1.0)
    table = table_from([0.0, 0.2, 1.0, 1.5], policy, visits=[1, 4, 8, 16])
    # At t = 8: 0 + 1.442, 0.2 + 0.721, 1 + 0.510, 1.5 + 0.361
    assert chosen(policy, table, epoch=8) == [2, 3]
    assert chosen(UCB(0.5, c=2.0), table, epoch=8) == [0, 3]  # 2.884, 1.642, 2.020, 2.221
    assert chosen(UCB(0.5, c=0.0), table, epoch=8) == [2, 3]


def test_a_sample_without_a_score_has_to_get_one():
    for policy in (EpsilonGreedy(0.5, 0), UCB(0.5), OrderDP(0.5, keep=0.5)):
        assert chosen(policy, table_from([9.0, NAN, 8.0, 9.0], policy), 3) == [1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EpsilonGreedy(0.5, 1.5), "epsilon is 1.5; it is a share of the kept"),
        (lambda: UCB(0.5, -1), "c is -1; it must be a number of at least 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
