"""Random pruning keeps every sample with the same probability."""

from helpers import keep_probabilities, random_losses
from infobatch import RandomPruning


def test_random_pruning_looks_at_no_score():
    kept = keep_probabilities(RandomPruning(0.3), random_losses(100))
    assert kept.per_sample().tolist() == [0.7] * 100
