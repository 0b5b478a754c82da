"""Losses that wait on the device arrive in order, and make the scores that they would on the host."""

import numpy as np
import pytest
import torch

from helpers import Numbers, random_losses
from infobatch import DynamicPruner, InfoBatch
from infobatch.scores import ScoreTable
from infobatch.scores.buffer import LossBuffer


@pytest.mark.parametrize("sizes", [[3, 3, 3], [10], [4, 4], [25, 1], [1] * 9])
def test_a_buffer_delivers_everything_in_order(sizes, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda self: False))
    taken = []
    buffer = LossBuffer(lambda indices, losses: taken.append((indices, losses.copy())), capacity=4)
    fed = 0
    for size in sizes:
        buffer.put(np.arange(fed, fed + size), torch.arange(fed, fed + size).double())
        fed += size
    buffer.drain()
    assert np.concatenate([indices for indices, _ in taken]).tolist() == list(range(fed))
    assert np.concatenate([losses for _, losses in taken]).tolist() == list(range(fed))


def test_of_an_index_repeated_in_a_buffer_the_last_loss_counts(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda self: False))
    table = ScoreTable(6)
    buffer = LossBuffer(table.record, capacity=4)
    for round_ in range(5):
        buffer.put(np.array([5, round_, 2]), torch.tensor([10.0, 20.0, 30.0]) + round_)
    buffer.drain()
    assert table["last_loss"].tolist() == [20, 21, 34, 23, 24, 14]


@pytest.mark.parametrize("num_samples", [7, 40])
def test_scores_are_the_same_through_a_device(num_samples, monkeypatch):
    def run():
        pruner = DynamicPruner(Numbers(num_samples), 4, policy=InfoBatch(0.7))
        loader = pruner.loader(3)
        for epoch in pruner.epochs():
            losses = random_losses(num_samples, seed=epoch)
            for indices, _ in loader:
                for turn in (1, 0, 0):
                    pruner.record(losses[indices] + turn, indices)
        return pruner.state_dict()

    host = run()
    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda self: False))
    device = run()
    assert torch.equal(host["weights"], device["weights"])
    for name, column in host["scores"]["columns"].items():
        assert torch.equal(column, device["scores"]["columns"][name])
