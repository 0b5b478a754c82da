"""The weights of a batch are there within its block alone, and wrong ones are refused."""

import copy
import re
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from infobatch.batch_norm import batch_weights, weigh_batch_norm
from infobatch.batch_norm.layers import WeightedBatchNorm

WEIGHTS = torch.tensor([1.0, 2, 0.5, 1])


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3), nn.BatchNorm1d(3)
    )


def held(model):
    return [layer._batch for layer in model.modules() if isinstance(layer, WeightedBatchNorm)]


def same(one, other):
    return all(torch.equal(ours, one.state_dict()[key]) for key, ours in other.state_dict().items())


def test_weights_leave_with_their_block():
    model = weigh_batch_norm(network())
    attributes = [set(vars(layer)) for layer in model.modules()]
    with batch_weights(model, WEIGHTS):
        assert all(batch is not None for batch in held(model))
        with batch_weights(model, torch.ones(8)):
            model(torch.randn(8, 3))
        model(torch.randn(4, 3))
    assert held(model) == [None, None]
    assert attributes == [set(vars(layer)) for layer in model.modules()]


def test_weights_leave_with_an_error():
    model = weigh_batch_norm(network())

    def train():
        with batch_weights(model, WEIGHTS):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        train()
    assert held(model) == [None, None]


@pytest.mark.parametrize("weights", [None, torch.ones(4), torch.full((4,), 0.37)])
def test_equal_weights_and_none_run_pytorchs_layer_to_the_last_bit(weights):
    plain, weighted = network(), weigh_batch_norm(network())
    x = torch.randn(4, 3)
    expected = plain(x)
    if weights is None:
        outputs = weighted(x)
    else:
        with batch_weights(weighted, weights):
            outputs = weighted(x)
    assert torch.equal(outputs, expected)
    for model, result in ((plain, expected), (weighted, outputs)):
        (result * x).sum().backward()
        assert "WeightedNormalization" not in type(result.grad_fn).__name__
        assert model[1].num_batches_tracked == 1
    assert same(weighted, plain)
    for ours, theirs in zip(weighted.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_weights_do_not_matter_in_evaluation_mode_nor_in_frozen_layers():
    model = weigh_batch_norm(network())
    x = torch.randn(7, 3)
    model[1].eval()
    model[4].eval()
    expected = model(x)
    with batch_weights(model, WEIGHTS):  # of another size
        assert torch.equal(model(x), expected)
        assert torch.equal(model.eval()(x), expected)


def test_repeats_alone_are_normalized_and_not_tracked():
    plain, weighted = network(), weigh_batch_norm(network())
    before = copy.deepcopy(weighted.state_dict())
    x = torch.randn(4, 3)
    with batch_weights(weighted, torch.zeros(4)):
        outputs = weighted(x)
    assert torch.allclose(outputs, plain(x), atol=1e-6)
    assert all(torch.equal(before[key], value) for key, value in weighted.state_dict().items())
    weighted[1].momentum = weighted[4].momentum = None
    with batch_weights(weighted, torch.zeros(4)):
        weighted(x)
    assert all(torch.equal(before[key], value) for key, value in weighted.state_dict().items())


def test_a_model_that_is_not_converted_takes_no_weights():
    plain, other = network(), network()
    x = torch.randn(4, 3)
    with batch_weights(plain, WEIGHTS):
        outputs = plain(x)
    assert torch.equal(outputs, other(x))


@pytest.mark.parametrize("weights", [WEIGHTS, torch.ones(4)])
def test_as_many_weights_as_rows(weights):
    model = weigh_batch_norm(network())
    with (
        batch_weights(model, weights),
        pytest.raises(
            ValueError, match=r"input of 8 rows, and the batch has 4 weights; give .*repeat_inter"
        ),
    ):
        model(torch.randn(8, 3))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(4, 1), "have shape (4, 1); give one for each sample"),
        (torch.ones(0), "have shape (0,); give one for each sample"),
        (torch.tensor([1, -2.0]), "weight 1 of the batch is -2.0; give finite weights, at least 0"),
        (torch.tensor([float("nan"), 1]), "weight 0 of the batch is nan"),
        (torch.tensor([1, float("inf")]), "weight 1 of the batch is inf"),
        (torch.ones(4, device="meta"), "are on meta, and reading them there"),
    ],
)
def test_wrong_weights_are_refused(weights, message):
    model = weigh_batch_norm(network())
    with pytest.raises(ValueError, match=re.escape(message)), batch_weights(model, weights):
        pass
    assert held(model) == [None, None]


def test_weights_that_are_no_tensor_are_refused():
    model = weigh_batch_norm(network())
    with pytest.raises(TypeError, match="are a list; give a tensor"), batch_weights(model, [1.0, 2.0]):
        pass


def test_weights_are_sent_once_to_each_device(monkeypatch):
    sent = []

    def send(values, device):
        sent.append(device)
        return values.to(device)

    monkeypatch.setattr("infobatch.batch_norm.weights.sent_to_device", send)
    here = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3, affine=False))
    there = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3)).to("meta")
    layers = [*there, nn.BatchNorm1d(3, affine=False, track_running_stats=False)]  # where its inputs are
    model = weigh_batch_norm(nn.ModuleList([*here, *layers]))
    with batch_weights(model, torch.ones(4)):
        assert not sent
    with batch_weights(model, WEIGHTS):
        assert sent == [torch.device("meta")]
        devices = [layer._batch.shares.device.type for layer in model]
    assert devices == ["cpu", "cpu", "meta", "meta", "meta"]


def test_shares_are_as_exact_as_the_layer():
    model = weigh_batch_norm(nn.Sequential(nn.BatchNorm1d(3).double(), nn.BatchNorm1d(3)))
    x = 1e8 + torch.randn(64, 3, dtype=torch.float64)
    weights = 0.5 + torch.rand(64)  # float32, as of pruner.weights
    shares = (weights.double() / weights.double().sum())[:, None]
    mean = (shares * x).sum(0)
    expected = (x - mean) / ((shares * (x - mean).square()).sum(0) + model[0].eps).sqrt()
    with batch_weights(model, weights):
        assert torch.allclose(model[0](x), expected, atol=1e-6)
        assert [batch.shares.dtype for batch in held(model)] == [torch.float64, torch.float32]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_within_the_block(reentrant):
    plain, saving = (weigh_batch_norm(network()) for _ in range(2))
    x = torch.randn(4, 3, requires_grad=True)
    with batch_weights(plain, WEIGHTS):
        expected = plain(x)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum() + expected.sum(), x)
    with batch_weights(saving, WEIGHTS):
        outputs = checkpoint(saving, x, use_reentrant=reentrant)
        (outputs.square().sum() + outputs.sum()).backward()
    assert torch.equal(outputs, expected)
    assert torch.allclose(x.grad, expected_gradient)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_that_is_repeated_outside_of_its_block_is_refused(reentrant):
    model = weigh_batch_norm(network())
    x = torch.randn(4, 3, requires_grad=True)
    with batch_weights(model, WEIGHTS):
        outputs = checkpoint(model, x, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match=r"outside of the block .*; run the backward pass inside"):
        outputs.sum().backward()


@pytest.mark.parametrize("weights", [None, torch.ones(4)])
def test_a_checkpoint_without_weights_is_repeated_anywhere(weights):
    model = weigh_batch_norm(network())
    x = torch.randn(4, 3, requires_grad=True)
    with batch_weights(model, WEIGHTS):
        model(x).sum().backward()
    with nullcontext() if weights is None else batch_weights(model, weights):
        outputs = checkpoint(model, x, use_reentrant=True)
    outputs.sum().backward()


def test_gradients_accumulate_over_batches():
    model = weigh_batch_norm(network())
    batches = [(torch.randn(n, 3), torch.rand(n)) for n in (4, 6)]
    single = []
    for x, weights in batches:
        with batch_weights(model, weights):
            single.append(torch.autograd.grad(model(x).square().sum(), list(model.parameters())))
    losses = []
    for x, weights in batches:  # backward after both
        with batch_weights(model, weights):
            losses.append(model(x).square().sum())
    sum(losses).backward()
    for parameter, *parts in zip(model.parameters(), *single, strict=True):
        assert torch.allclose(parameter.grad, sum(parts), atol=1e-6)
