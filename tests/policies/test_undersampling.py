"""What is left out of each class goes by its size alone."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import request, table_of
from helpers.policies import sizes_kept
from infobatch.batching import EpochSizes
from infobatch.policies import Undersampling
from infobatch.selection import draw


def kept_of(labels, num_pruned=None, seed=0, multiple=1, prune_ratio=0.5):
    """What a draw keeps of each class, and the weights of the samples."""
    policy = Undersampling(labels, prune_ratio)
    asked = request(num_pruned, seed, epoch_sizes=EpochSizes(multiple))
    table = table_of(torch.zeros(len(labels)), policy)
    selection = draw(policy.keep_probabilities(table, asked), asked.generator, asked.epoch_sizes)
    return sizes_kept(selection, labels), selection.weights


@pytest.mark.parametrize("seed", range(5))
def test_of_two_classes_the_rarer_one_is_kept_whole(seed):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1], [950, 50]))
    kept, weights = kept_of(labels, 800, seed)
    assert kept == [150, 50]
    assert weights[labels == 1].unique().tolist() == [1]
    assert weights[labels == 0].unique().tolist() == pytest.approx([0, 950 / 150])


def test_what_is_left_out_changes_with_the_draw():
    labels = np.repeat([0, 1], [90, 10])
    (_, first), (_, second) = (kept_of(labels, 50, seed) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_classes_are_made_equally_large_as_far_as_they_can_be():
    labels = np.repeat(np.arange(4), [600, 300, 80, 20])
    assert kept_of(labels)[0] == [200, 200, 80, 20]
    assert kept_of(labels, 960)[0] == [10, 10, 10, 10]


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=300),
    ratio=st.floats(0, 0.95),
    multiple=st.sampled_from([1, 8]),
)
def test_any_classes_keep_some_of_each_and_no_more_of_one_than_of_a_larger_one(sizes, ratio, multiple):
    sizes = sorted([*sizes, 8])
    labels = np.repeat(np.arange(len(sizes)), sizes)
    kept, _ = kept_of(labels, multiple=multiple, prune_ratio=ratio)
    assert min(kept) >= 1
    assert all(few <= many + 1 for few, many in itertools.pairwise(kept))  # of rounding
    assert sum(kept) % multiple == 0 or sum(kept) == len(labels)
