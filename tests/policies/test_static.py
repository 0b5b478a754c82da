"""Static scores keep the highest in every epoch."""

import math

import numpy as np
import pytest
import torch

from helpers import Numbers, request
from infobatch import DynamicPruner
from infobatch.policies import Static
from infobatch.scores import ScoreTable
from infobatch.selection import select


def test_static_scores_keep_the_highest_in_every_epoch():
    policy = Static([3.0, math.inf, 1.0, 2.0, -5.0], 0.4)
    parts = [select(policy, ScoreTable(5), request(seed=seed)) for seed in range(5)]
    assert all(part.indices.tolist() == [0, 1, 3] for part in parts)
    assert parts[0].weights.tolist() == [1, 1, 0, 1, 0]
    assert select(policy, ScoreTable(5), request(4)).indices.tolist() == [1]


def test_equal_static_scores_are_ordered_at_random_once():
    policy = Static(np.zeros(1000, np.int64), 0.5)
    parts = [select(policy, ScoreTable(1000), request(seed=seed)).indices for seed in range(3)]
    assert torch.equal(parts[0], parts[1])
    assert 200 < int((parts[0] < 500).sum()) < 300


def test_a_run_of_static_scores_trains_its_subset_alone():
    policy = Static(torch.arange(10))
    pruner = DynamicPruner(Numbers(10), 3, policy=policy, warmup_epochs=0, delta=1, target=0.6)
    epochs = []
    loader = pruner.loader(2)
    for _ in pruner.epochs():
        for indices, _ in loader:
            pruner.update(torch.zeros(len(indices)), indices)
        epochs.append(pruner.selection.indices.tolist())
    assert epochs == [[6, 7, 8, 9]] * 3


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Static([0], 1.0), ValueError, "prune_ratio is 1.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
