"""Optimizers by name."""

import pytest
import torch
from torch import nn

from helpers.lab import loss_of
from infobatch.lab.training.optimizers import make_optimizer


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_layerwise_optimisers_cancel_a_common_factor_in_the_gradient(name):
    steps = []
    for scale in (1.0, 3.0):
        torch.manual_seed(0)
        model = nn.Linear(4, 3, bias=False)
        optimizer = make_optimizer(name, model, lr=0.1, weight_decay=0.0)
        before = model.weight.detach().clone()
        loss_of(model, scale).backward()
        optimizer.step()
        steps.append(model.weight.detach() - before)
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_layerwise_optimisers_spare_biases_and_norms(name):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    groups = make_optimizer(name, model, lr=0.1, weight_decay=0.5).param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert all(p.ndim == 2 for p in groups[0]["params"])
    assert len(groups[1]["params"]) == 3
