"""Batches in proportion to others keep to their budget and have their least, as far as that can be."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infobatch.loading.proportion import proportional_ends


def sizes_of(costs, shares, leasts, most=math.inf, multiple=1):
    costs, shares = np.asarray(costs, float), np.asarray(shares, float)
    return np.diff(
        proportional_ends(costs, shares, np.asarray(leasts), most, multiple), prepend=0
    ).tolist()


def test_by_hand():
    assert sizes_of([1] * 10, [3, 3, 3, 3], [1] * 4) == [3, 2, 3, 2]
    assert sizes_of([4, 1, 1, 1, 1, 4], [8, 8, 8], [1] * 3) == [1, 4, 1]
    assert sizes_of([1, 1, 1, 1, 8, 8], [5, 5, 5, 5], [2, 1, 1, 1]) == [3, 1, 1, 1]


def test_batches_of_single_costly_samples_are_filled_up_to_their_least():
    assert sizes_of([9, 1, 9, 1, 1, 1], [10, 10, 10], [2] * 3) == [2, 2, 2]
    assert sizes_of([1, 1, 1, 1, 9, 9], [10, 10, 10], [2] * 3) == [2, 2, 2]


def test_the_budget_goes_before_the_least():
    assert sizes_of([8, 8, 2], [10, 10], [2, 2], most=10) == [1, 2]
    assert sizes_of([6] * 4, [12, 12], [2, 2], most=11) == [1] * 4


def test_too_few_samples_make_fewer_batches():
    assert sizes_of([1] * 5, [4] * 4, [2] * 4) == [2, 3]
    assert sizes_of([1], [4] * 4, [2] * 4) == [1]
    assert len(sizes_of([1] * 90, [4] * 50, [2] * 50)) == 45


def test_what_costs_nothing_is_shared_out_by_number():
    assert sizes_of([0] * 6, [0] * 3, [1] * 3) == [2, 2, 2]
    assert sizes_of([0] * 6, [1] * 3, [1] * 3) == [2, 2, 2]


@pytest.mark.parametrize("unit", [1, 3, 1e3, 1e9])
def test_the_unit_of_costs_changes_nothing(unit):
    rng = np.random.default_rng(0)
    costs, shares = rng.integers(1, 200, 300), rng.integers(400, 1000, 60)
    leasts = np.full(60, 2)
    assert sizes_of(costs / unit, shares / unit, leasts, 1000 / unit) == sizes_of(
        costs, shares, leasts, 1000
    )


@settings(deadline=None, max_examples=300)
@given(
    num=st.integers(1, 120),
    num_batches=st.integers(1, 40),
    least=st.integers(1, 4),
    multiple=st.integers(1, 4),
    most=st.sampled_from([math.inf, 12.0, 40.0]),
    seed=st.integers(0, 999),
)
def test_nothing_is_lost_and_no_batch_is_below_its_least(num, num_batches, least, multiple, most, seed):
    rng = np.random.default_rng(seed)
    costs, shares = rng.integers(1, 11, num), rng.integers(1, 41, num_batches)
    smallest = -(-least // multiple) * multiple
    sizes = sizes_of(costs, shares, np.full(num_batches, smallest), most, multiple)
    assert sum(sizes) == num
    assert min(sizes) >= 1
    ends = np.cumsum(sizes)
    of_batches = np.add.reduceat(costs, ends - sizes)
    assert all(of_batches[np.array(sizes) > 1] <= most)
    if most == math.inf:
        assert all(size % multiple == 0 for size in sizes[:-1])
        assert min(sizes) >= min(smallest, num)
        most_batches = min(num_batches, max(1, num // smallest))
        assert (
            len(sizes) == most_batches if num >= smallest * num_batches else len(sizes) <= most_batches
        )
