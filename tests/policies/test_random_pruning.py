"""Random pruning keeps every sample with the same probability."""

import pytest

from helpers import Numbers, keep_probabilities, random_losses
from infobatch import DynamicPruner, RandomPruning


def test_random_pruning_looks_at_no_score():
    kept = keep_probabilities(RandomPruning(0.3), random_losses(100))
    assert kept.per_sample().tolist() == [0.7] * 100


def test_a_ratio_that_a_target_overrides_is_warned_of():
    with pytest.warns(UserWarning, match=r"prune_ratio=0\.3 has no effect: with a target"):
        DynamicPruner(Numbers(99), 9, policy=RandomPruning(0.3), target=0.2)
    DynamicPruner(Numbers(99), 9, policy=RandomPruning(), target=0.2)
    DynamicPruner(Numbers(99), 9, policy=RandomPruning(0.3))
