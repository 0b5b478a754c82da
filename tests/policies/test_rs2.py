"""RS2 trains a permutation in parts."""

from itertools import chain

import numpy as np
import torch

from helpers import Numbers, table_from
from helpers.policies import chosen
from infobatch import DynamicPruner
from infobatch.policies import RS2
from infobatch.scores import ScoreTable


def record(table, indices):
    table.record(np.array(indices), np.ones(len(indices), np.float32))


def test_rs2_takes_a_permutation_in_parts():
    table = ScoreTable(12)
    record(table, range(12))  # the warm-up
    rounds = []
    for epoch in range(1, 9):
        part = chosen(RS2(0.75), table, seed=epoch, epoch=epoch)
        assert len(part) == 3
        record(table, part)
        rounds.append(part)
    for start in (0, 4):
        assert sorted(chain(*rounds[start : start + 4])) == list(range(12))
    assert rounds[:4] != rounds[4:]


def test_samples_without_a_score_have_their_turn_too():
    pruner = DynamicPruner(Numbers(40), 5, policy=RS2(), delta=1)
    loader = pruner.loader(10)
    for _ in pruner.epochs():
        for indices, _ in loader:
            scored = torch.as_tensor(indices.tolist()) < 20
            pruner.update(torch.ones(len(indices)), indices, scored=scored)
    assert pruner.scores["visits"].tolist() == [3] * 40


def test_rs2_begins_the_next_permutation_with_what_is_left_of_the_last():
    policy = RS2()
    table = table_from(torch.ones(5), policy, visits=[2, 1, 2, 2, 2])
    part = chosen(policy, table, 3)
    assert len(part) == 2
    assert 1 in part
