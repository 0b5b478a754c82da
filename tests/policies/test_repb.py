"""RePB leaves out what lay below its batch's mean."""

import numpy as np
import pytest
import torch

from helpers import request, table_from
from infobatch.policies import RePB
from infobatch.scores import ScoreTable
from infobatch.selection import select


def test_repb_leaves_out_what_lay_below_its_batchs_mean():
    policy = RePB(0.5)
    table = ScoreTable(6, ["last_loss", "below_batch", "visits"])
    table.record(np.arange(3), np.array([1.0, 2.0, 6.0], np.float32))  # mean 3
    table.record(np.arange(3, 6), np.array([10.0, 20.0, 60.0], np.float32))  # mean 30
    assert table["below_batch"].tolist() == [1, 1, 0, 1, 1, 0]
    left_out, num_draws = np.zeros(6), 1000
    for seed in range(num_draws):
        left_out += select(policy, table, request(seed=seed)).weights.numpy() == 0
    assert left_out[[2, 5]].tolist() == [0, 0]
    below = left_out[[0, 1, 3, 4]] / num_draws
    assert (abs(below - 0.5) < 5 * (0.25 / num_draws) ** 0.5).all()


def test_repb_weighs_by_how_often_a_sample_was_there():
    policy = RePB(0.5)
    table = table_from(torch.ones(4), policy, visits=[4, 2, 1, 4], below_batch=[0, 0, 0, 0])
    weights = select(policy, table, request(epoch=4)).weights
    assert weights.tolist() == pytest.approx([5 / 5, 5 / 3, 5 / 2, 5 / 5])
    exact = select(policy, table_from(torch.ones(4), policy, below_batch=[1, 0, 1, 1]), request(3))
    assert exact.indices.tolist() == [1]
