"""Batch sizes."""

import pytest

from helpers import Numbers
from infobatch import DynamicPruner


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [(21, "the 20 samples are fewer than one batch of 21; lower"), (0, "batch_size is 0")],
)
def test_a_batch_size_that_does_not_fit(batch_size, message):
    with pytest.raises(ValueError, match=message):
        DynamicPruner(Numbers(20), 5).loader(batch_size)
