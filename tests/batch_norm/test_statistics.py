"""A weight counts a sample as often: in the statistics, in the outputs and in all gradients."""

import pytest
import torch
from torch import nn

from infobatch.batch_norm import batch_weights, weigh_batch_norm
from infobatch.batch_norm.layers import WEIGHTED
from infobatch.batch_norm.statistics import WeightedNormalization, weighted_statistics
from infobatch.batch_norm.weights import _unpacked, packed_shares

KINDS = [
    (nn.BatchNorm1d, ()),
    (nn.BatchNorm1d, (7,)),
    (nn.BatchNorm2d, (3, 4)),
    (nn.BatchNorm3d, (2, 3, 4)),
    (nn.SyncBatchNorm, (3, 4)),  # in one process
]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")),
]
TIMES = torch.tensor([2, 0, 1, 3, 1], dtype=torch.float64)
OPTIONS = [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}, {"eps": 0.1}]


def shares_of(weights):
    """The shares that a layer is given."""
    return _unpacked(*packed_shares(weights))


def pair(kind, **options):
    """PyTorch's layer and its copy with weights, of parameters that are not 1 and 0."""
    layers = [kind(3, dtype=torch.float64, **options) for _ in range(2)]
    for layer in layers:
        if layer.affine:
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.uniform_(layer.bias)
    layers[1].load_state_dict(layers[0].state_dict())
    return layers[0], weigh_batch_norm(layers[1])


def gradients(loss, x, layer):
    return torch.autograd.grad(loss, [x, *layer.parameters()])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("kind", "positions"), KINDS)
def test_integer_weights_are_samples_that_come_as_often(kind, positions, options, device):
    plain, weighted = (layer.to(device) for layer in pair(kind, **options))
    x = (5 + 2 * torch.randn(5, 3, *positions, dtype=torch.float64)).to(device).requires_grad_()
    factors = torch.randn(5, 3, *positions, dtype=torch.float64, device=device)
    rows = torch.arange(5).repeat_interleave(TIMES.long()).to(device)
    expected = plain(x[rows])
    with batch_weights(weighted, TIMES):
        outputs = weighted(x)
    assert torch.allclose(outputs[rows], expected)
    times = TIMES.to(device).view(-1, *[1] * (x.dim() - 1))
    ours = gradients((factors * times * outputs).sum(), x, weighted)
    theirs = gradients((factors[rows] * expected).sum(), x, plain)
    for our, their in zip(ours, theirs, strict=True):
        assert torch.allclose(our, their)
    if weighted.running_mean is not None:
        assert torch.allclose(weighted.running_mean, plain.running_mean)
        assert weighted.num_batches_tracked == 1


@pytest.mark.parametrize("options", [{}, {"momentum": None}])
@pytest.mark.parametrize(("kind", "positions"), KINDS)
def test_weights_of_0_and_1_leave_samples_out(kind, positions, options):
    plain, weighted = pair(kind, **options)
    for _ in range(3):
        x = 3 + torch.randn(6, 3, *positions, dtype=torch.float64)
        weights = torch.tensor([1.0, 1, 0, 1, 0, 1])
        expected = plain(x[weights > 0])
        with batch_weights(weighted, weights):
            outputs = weighted(x)
        assert torch.allclose(outputs[weights > 0], expected)
        for name, buffer in plain.named_buffers():  # running_var has n/(n-1) of the samples that count
            assert torch.allclose(weighted.get_buffer(name), buffer), name


@pytest.mark.parametrize("positions", [(), (3, 4)])
def test_the_running_variance_is_unbiased(positions):
    """For values that are drawn independently of their weights, with a variance of 4."""
    weights = torch.tensor([4.0, 1, 1, 0.5], dtype=torch.float64)
    layer = weigh_batch_norm((nn.BatchNorm2d if positions else nn.BatchNorm1d)(20_000, momentum=1.0))
    with batch_weights(layer, weights):
        layer(2 * torch.randn(4, 20_000, *positions))
    assert float(layer.running_var.mean()) == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize("positions", [(), (1, 1)])
def test_a_value_that_alone_has_a_weight_is_normalized_with_all_and_not_tracked(positions):
    kind = nn.BatchNorm2d if positions else nn.BatchNorm1d
    plain, layer = pair(kind)
    x = torch.randn(4, 3, *positions, dtype=torch.float64, requires_grad=True)
    expected = plain(x)
    with batch_weights(layer, torch.tensor([0.0, 3, 0, 0])):
        outputs = layer(x)
    assert torch.allclose(outputs, expected)
    (ours,), (theirs,) = (torch.autograd.grad(out[1].sum(), x) for out in (outputs, expected))
    assert torch.allclose(ours, theirs)
    assert torch.equal(layer.running_var, torch.ones_like(layer.running_var))
    assert layer.num_batches_tracked == 0


def test_a_repeat_is_normalized_as_if_all_weights_were_equal():
    plain, layer = pair(nn.BatchNorm2d)
    x = torch.randn(4, 3, 2, 5, dtype=torch.float64)
    with batch_weights(layer, torch.tensor([1.0, 2, 0, 0])):
        outputs = layer(x)
    assert torch.allclose(outputs[2:], plain(x)[2:])


@pytest.mark.parametrize("weights", [[1.0, 0], [2.0, 2, 0], [1.0, 2, 1, 0]])
def test_repeats_do_not_grow_in_a_deep_network(weights):
    torch.manual_seed(0)
    blocks = [(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU()) for _ in range(50)]
    model = weigh_batch_norm(nn.Sequential(*(layer for block in blocks for layer in block)))
    with batch_weights(model, torch.tensor(weights)), torch.no_grad():
        assert model(torch.randn(len(weights), 32)).max() <= len(weights) ** 0.5


def test_a_mean_far_from_zero_does_not_spoil_the_variance():
    x = 1000 + torch.randn(8, 2, 16, 16)
    weights = torch.rand(8)
    low = weighted_statistics(x, shares_of(weights))
    high = weighted_statistics(x.double(), shares_of(weights.double()))
    assert torch.allclose(low.var.double(), high.var, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_of_half_precision_are_float32(dtype):
    x = torch.randn(64, 3, 5, 5).to(dtype)
    statistics = weighted_statistics(x, shares_of(torch.rand(64)))
    assert {value.dtype for value in statistics} == {torch.float32}


@pytest.mark.parametrize("options", [{}, {"affine": False}])
@pytest.mark.parametrize(("kind", "positions"), KINDS)
def test_gradients_are_those_of_finite_differences(kind, positions, options):
    layer = weigh_batch_norm(kind(2, dtype=torch.float64, track_running_stats=False, **options))
    weights = torch.tensor([0.3, 2, 0, 1], dtype=torch.float64)
    x = torch.randn(4, 2, *positions, dtype=torch.float64, requires_grad=True)
    with batch_weights(layer, weights):
        assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))


@pytest.mark.parametrize("weights", [[0.3, 2, 1], [1.0, 0, 2], [1.0, 0, 0]])
@pytest.mark.parametrize("options", [{}, {"affine": False}])
@pytest.mark.parametrize(("kind", "positions"), KINDS[:2])
def test_second_derivatives_are_those_of_finite_differences(kind, positions, options, weights):
    layer = weigh_batch_norm(kind(2, dtype=torch.float64, track_running_stats=False, **options))
    weights = torch.tensor(weights, dtype=torch.float64)
    x = torch.randn(3, 2, *positions, dtype=torch.float64, requires_grad=True)
    with batch_weights(layer, weights):
        assert torch.autograd.gradgradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))


def test_only_gradients_that_are_needed_are_made():
    layer = weigh_batch_norm(nn.BatchNorm1d(3)).requires_grad_(False)
    x = torch.randn(4, 3, requires_grad=True)
    with batch_weights(layer, torch.rand(4)):
        layer(x).square().sum().backward()
        assert x.grad is not None
        layer.requires_grad_(True)
        layer(x.detach()).square().sum().backward()
        with torch.no_grad():
            assert not layer(x).requires_grad
    assert layer.weight.grad is not None


def test_normalization_keeps_the_layout_of_images():
    layer = weigh_batch_norm(nn.BatchNorm2d(3))
    x = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last).requires_grad_()
    with batch_weights(layer, torch.rand(4)):
        outputs = layer(x)
    outputs.square().sum().backward()
    assert outputs.is_contiguous(memory_format=torch.channels_last)
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
    assert isinstance(outputs.grad_fn, WeightedNormalization._backward_cls)


def test_every_layer_of_pytorch_has_one_with_weights():
    own = {
        kind
        for name, kind in vars(nn).items()
        if name.endswith(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"))
    }
    assert own == set(WEIGHTED)
