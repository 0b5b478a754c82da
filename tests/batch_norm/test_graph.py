"""Converted batch norm without weights is found in the graph of a batch's losses, and nothing else."""

import gc
import weakref

import pytest
import torch
from torch import nn

from infobatch.batch_norm import (
    batch_weights,
    is_weighed,
    unweigh_batch_norm,
    unweighted_batch_norms,
    warn_if_unweighted,
    weigh_batch_norm,
)

WEIGHTS = torch.tensor([1.0, 2, 0.5, 1])


def losses_of(*layers):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), *layers, nn.Flatten(), nn.LazyLinear(1))
    return weigh_batch_norm(model), lambda: model(torch.randn(4, 3, 6, 6)).square().flatten()


def test_each_layer_without_weights_is_counted():
    model, losses = losses_of(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    assert unweighted_batch_norms(losses()) == 2
    with batch_weights(model, WEIGHTS):
        assert unweighted_batch_norms(losses()) == 0


def test_layers_that_are_not_converted_do_not_count():
    kept, _ = losses_of(nn.BatchNorm2d(4))  # of another model
    model, losses = losses_of(nn.BatchNorm2d(4))
    unweigh_batch_norm(model)
    assert unweighted_batch_norms(losses()) == 0
    x = torch.randn(4, 3, requires_grad=True)
    assert unweighted_batch_norms(nn.functional.batch_norm(x, None, None, training=True).sum(1)) == 0
    assert is_weighed(kept)


def test_frozen_layers_do_not_count():
    model, losses = losses_of(nn.BatchNorm2d(4))
    model.eval()
    assert unweighted_batch_norms(losses()) == 0


@pytest.mark.parametrize(
    "layer",
    [nn.Identity(), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.InstanceNorm2d(4, affine=True)],
    ids=str,
)
def test_other_layers_do_not_count(layer):
    kept, _ = losses_of(nn.BatchNorm2d(4))  # of another model, so that graphs are looked at
    assert is_weighed(kept)
    assert unweighted_batch_norms(losses_of(layer)[1]()) == 0


def test_losses_without_a_gradient():
    with torch.no_grad():
        assert unweighted_batch_norms(losses_of(nn.BatchNorm2d(4))[1]()) == 0
    assert unweighted_batch_norms(torch.rand(4)) == 0


def test_a_graph_with_many_paths_is_walked_once():
    norm = weigh_batch_norm(nn.BatchNorm1d(3))
    x = norm(torch.randn(4, 3, requires_grad=True))
    for _ in range(200):  # 2^200 paths
        x = x + x * 0.5
    assert unweighted_batch_norms(x.sum(1)) == 1


def test_nothing_of_the_graph_is_kept():
    x = torch.randn(4, 3, requires_grad=True)
    norm = weigh_batch_norm(nn.BatchNorm1d(3))
    inner = norm(x)
    losses = inner.square().sum(1)
    assert unweighted_batch_norms(losses) == 1
    gone = weakref.ref(inner)
    del losses, inner
    gc.collect()
    assert gone() is None


def test_the_warning_says_what_is_missing():
    _, losses = losses_of(nn.BatchNorm2d(4))
    with pytest.warns(UserWarning, match="was given none for this batch, .*: run the forward pass in"):
        warn_if_unweighted(losses())
