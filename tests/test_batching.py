"""How many steps an epoch takes, and multiples of a batch."""

import pytest

from helpers import Numbers
from infobatch import DynamicPruner
from infobatch.batching import Batching, nearest_multiple


@pytest.mark.parametrize(
    ("batching", "num_trained", "num_steps"),
    [
        (Batching(8), 100, 13),
        (Batching(8, drop_last=True), 96, 12),
        (Batching(8, num_replicas=3), 100, 5),
        (Batching(8, drop_last=True, num_replicas=3), 96, 4),
        (Batching(2.5), 100, 40),
        (Batching(8, drop_last=True, user_length=100), 100, 12),
    ],
    ids=str,
)
def test_the_last_batch_is_short_or_dropped(batching, num_trained, num_steps):
    assert batching.num_trained(100) == num_trained
    assert batching.num_steps(100) == num_steps


def test_the_nearest_multiple_is_one_that_can_be_kept():
    assert [nearest_multiple(count, 8, 100) for count in (3, 11, 12, 99)] == [8, 8, 16, 96]
    assert nearest_multiple(3, 8, 100, least=17) == 24
    assert nearest_multiple(100, 8, 20) == 16


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [(21, "the 20 samples are fewer than one batch of 21; lower"), (0, "batch_size is 0")],
)
def test_a_batch_size_that_does_not_fit(batch_size, message):
    with pytest.raises(ValueError, match=message):
        DynamicPruner(Numbers(20), 5).loader(batch_size)
