"""Whole numbers of samples that add up to the total."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from infobatch.policies.allocation import whole


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
