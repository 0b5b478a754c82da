"""Selective backprop draws by percentile."""

from dataclasses import replace

import numpy as np
import torch

from helpers import run
from helpers.digits import QUICK
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.selective_backprop import draw_by_percentile


def test_selective_backprop_draws_by_percentile_without_replacement():
    """At u = 1/4, 2/4, 3/4, 1 and a third to be kept: chances go as u^2, so 1 : 4 : 9 : 16."""
    losses, num_draws = torch.tensor([5.0, 0.1, 7.0, 0.2]), 4000
    first, pairs = np.zeros(4), set()
    generator = torch.Generator().manual_seed(0)
    for _ in range(num_draws):
        uniform = torch.rand(4, generator=generator)
        first[draw_by_percentile(losses, 1, 1 / 3, uniform)] += 1
        pair = draw_by_percentile(losses, 2, 1 / 3, uniform).tolist()
        assert len(set(pair)) == 2
        pairs.add(frozenset(pair))
    expected = np.array([9, 1, 16, 4]) / 30
    assert (abs(first / num_draws - expected) < 5 * (expected * (1 - expected) / num_draws) ** 0.5).all()
    assert len(pairs) == 6


def test_selective_backprop_trains_its_share_in_the_epochs_that_can_be_pruned(data, tmp_path):
    config = replace(QUICK, policy="none", backward_share=0.33)
    summary = run(config, data, tmp_path)
    metrics = RunFolder(tmp_path).metrics()
    assert [m.num_kept for m in metrics] == [1400, 462, 462, 1400]
    assert [m.num_forward for m in metrics] == [0, 1400, 1400, 0]
    assert summary.num_steps == 4 * 11
    assert summary.result > 80
