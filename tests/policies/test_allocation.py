"""Whole numbers of samples that add up to the total."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from infobatch.chunks import CHUNK
from infobatch.policies.allocation import root_mean_square, whole


@settings(deadline=None)
@given(
    shares=st.lists(st.floats(0, 20), min_size=1, max_size=12),
    total=st.floats(0, 1),
    data=st.data(),
)
def test_shares_are_made_whole(shares, total, data):
    counts = np.array([data.draw(st.integers(max(1, int(s)), 25)) for s in shares])
    total = round(len(counts) + total * (counts.sum() - len(counts)))
    numbers = whole(np.array(shares), total, counts)
    assert numbers.sum() == total
    assert ((numbers >= 1) & (numbers <= counts)).all()


def test_many_classes_of_one_sample_beside_a_large_one_are_made_whole():
    counts = np.append(np.ones(20_000, np.int64), 160_000)
    numbers = whole(counts * 0.2, 36_000, counts)
    assert numbers.tolist() == [1] * 20_000 + [16_000]


def test_root_mean_squares_over_several_pieces_are_those_of_all():
    rng = np.random.default_rng(0)
    values = rng.normal(size=2 * CHUNK + 9).astype(np.float32)
    values[::7] = np.nan
    strata = rng.integers(0, 4, len(values)).astype(np.uint8)
    known = ~np.isnan(values)
    squares = np.square(values[known].astype(np.float64).clip(min=0))
    sums = np.bincount(strata[known], squares, 5)
    expected = np.sqrt(sums / np.maximum(np.bincount(strata[known], minlength=5), 1))
    assert np.array_equal(root_mean_square(values, strata, 5), expected)
