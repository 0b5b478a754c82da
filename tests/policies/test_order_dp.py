"""OrderDP keeps the hardest of a random pool."""

import math

import numpy as np
import pytest
import torch

from helpers import table_from
from helpers.policies import chosen
from infobatch.policies import OrderDP


def test_order_dp_keeps_the_hardest_of_a_random_pool():
    policy = OrderDP(0.7, keep=0.6)  # 3 of a pool of 5
    table, times = table_from(torch.arange(10.0), policy), np.zeros(10)
    for seed in range(4000):
        kept = chosen(policy, table, seed=seed)
        assert len(kept) == 3
        times[kept] += 1
    # i is kept if at most 2 of the 9 - i harder ones are among the other 4 of the pool
    expected = [
        sum(math.comb(9 - i, j) * math.comb(i, 4 - j) for j in range(3)) / math.comb(10, 5)
        for i in range(10)
    ]
    error = np.sqrt(np.array(expected) * (1 - np.array(expected)) / 4000)
    assert (abs(times / 4000 - expected) <= 5 * error + 1e-9).all()


def test_order_dp_at_the_authors_defaults_pools_three_quarters():
    table = table_from(torch.arange(1000.0), OrderDP())
    assert len(chosen(OrderDP(), table)) == round(0.75 * 0.85 * 1000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OrderDP(0.5, 0), "keep is 0; it is a share of the pool"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
