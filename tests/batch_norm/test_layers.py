"""Layers are converted there and back, and run wherever PyTorch's own do."""

import copy
import io
from contextlib import nullcontext

import pytest
import torch
import torch._dynamo.testing
from torch import nn
from torch.distributed import fsdp
from torch.optim.swa_utils import AveragedModel

from helpers import COMPILE_BACKENDS
from helpers.processes import launch
from infobatch.batch_norm import (
    batch_weights,
    unweigh_batch_norm,
    unweighted_batch_norms,
    weigh_batch_norm,
)
from infobatch.batch_norm.layers import WEIGHTED, WeightedBatchNorm
from infobatch.batch_norm.weights import batch_shares, packed_shares

WEIGHTS = torch.tensor([1.0, 2, 0.5, 1])


def network(**options):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8, **options),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)),
        nn.Flatten(),
        nn.Linear(128, 4),
        nn.BatchNorm1d(4, affine=False),
    )


def kinds(model):
    return [type(layer) for layer in model.modules()]


def step(forward, model, weights):
    """A forward and a backward pass with weights."""
    model.zero_grad()
    x = torch.randn(len(weights), 3, 8, 8)
    with batch_weights(forward, weights):
        outputs = forward(x)
    (outputs.square().sum() + (outputs * x[:, 0, 0, :4]).sum()).backward()
    return outputs


# -- Conversion ------------------------------------------------------------------------------------


def test_conversion_there_and_back():
    model, plain = network(), network()
    called = []
    model[1].register_forward_hook(lambda *_: called.append("hook"))
    before, keys, tensors = kinds(model), list(model.state_dict()), {id(p) for p in model.parameters()}
    assert weigh_batch_norm(weigh_batch_norm(model)) is model
    assert sum(issubclass(kind, WeightedBatchNorm) for kind in kinds(model)) == 3
    assert list(model.state_dict()) == keys
    assert {id(p) for p in model.parameters()} == tensors
    assert "WeightedBatchNorm2d(8, eps=1e-05" in str(model)
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(model(x), plain(x))
    assert called == ["hook"]
    assert unweigh_batch_norm(model) is model
    assert kinds(model) == before
    assert list(model.state_dict()) == keys
    assert torch.equal(model(x), plain(x))
    assert torch.equal(model.eval()(x), plain.eval()(x))


def test_states_are_exchanged_with_plain_models():
    plain, weighted = network(), weigh_batch_norm(network())
    step(weighted, weighted, WEIGHTS)
    plain.load_state_dict(weighted.state_dict())
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(plain.eval()(x), weighted.eval()(x))


def saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


COPIES = [copy.deepcopy, saved_and_loaded, lambda model: AveragedModel(model).module]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("copied", COPIES)
def test_copies_and_pickles(inside, copied):
    model = weigh_batch_norm(network())
    with batch_weights(model, WEIGHTS) if inside else nullcontext():
        other = copied(model)
    torch.manual_seed(1)
    expected = step(model, model, WEIGHTS)
    torch.manual_seed(1)
    assert torch.equal(step(other, other, WEIGHTS), expected)
    assert other(torch.randn(7, 3, 8, 8)).isfinite().all()  # no weights of another batch


@pytest.mark.parametrize("copied", COPIES)
def test_copies_are_known_to_be_converted(copied):
    model = copied(weigh_batch_norm(network()))
    assert unweighted_batch_norms(model(torch.randn(4, 3, 8, 8)).sum(1)) == 2  # one has no parameters
    unweigh_batch_norm(model)
    assert unweighted_batch_norms(model(torch.randn(4, 3, 8, 8)).sum(1)) == 0


@pytest.mark.parametrize(
    ("lazy", "positions"),
    [(nn.LazyBatchNorm1d, (7,)), (nn.LazyBatchNorm2d, (3, 4)), (nn.LazyBatchNorm3d, (2, 3, 4))],
)
def test_lazy_layers_become_weighted_ones(lazy, positions):
    x = torch.randn(4, 3, *positions)
    layer, plain = weigh_batch_norm(lazy()), lazy()
    with batch_weights(layer, WEIGHTS):
        outputs = layer(x)
    plain(x)
    assert type(layer) is WEIGHTED[type(plain)]
    with batch_weights(layer, WEIGHTS):
        assert torch.equal(layer(x), outputs)
    assert "WeightedNormalization" in type(outputs.grad_fn).__name__
    assert type(unweigh_batch_norm(layer)) is type(plain)
    assert type(unweigh_batch_norm(weigh_batch_norm(lazy()))) is lazy


class NormWithActivation(nn.BatchNorm2d):
    def forward(self, input):
        return super().forward(input).relu()


def test_layers_of_others_are_left_alone_and_named():
    model = nn.Sequential(nn.BatchNorm2d(3), NormWithActivation(3), NormWithActivation(3))
    with pytest.warns(
        UserWarning, match=r"without weights: .*NormWithActivation \(such as 1\); put"
    ) as all_:
        weigh_batch_norm(model)
    assert len(all_) == 1
    assert all_[0].filename == __file__
    assert [isinstance(layer, WeightedBatchNorm) for layer in model] == [True, False, False]
    with pytest.warns(UserWarning, match="such as the model itself"):
        weigh_batch_norm(model[1])


def test_averages_that_were_taken_away_are_not_tracked():
    layer = weigh_batch_norm(nn.BatchNorm1d(3))
    layer.running_mean = layer.running_var = None
    with batch_weights(layer, WEIGHTS):
        assert layer(torch.randn(4, 3)).isfinite().all()


# -- Where layers run ------------------------------------------------------------------------------


def test_under_autocast():
    model = weigh_batch_norm(network())
    exact = copy.deepcopy(model)
    torch.manual_seed(1)
    expected = step(exact, exact, WEIGHTS)
    torch.manual_seed(1)
    seen = []
    model[1].register_forward_hook(
        lambda _, inputs, output: seen.append((inputs[0].dtype, output.dtype))
    )
    with torch.autocast("cpu", torch.bfloat16):
        outputs = step(model, model, WEIGHTS)
    assert seen == [(torch.bfloat16, torch.bfloat16)]
    assert torch.allclose(outputs.float(), expected, atol=0.1)
    for ours, exactly in zip(model.buffers(), exact.buffers(), strict=True):
        assert ours.dtype == exactly.dtype
        assert torch.allclose(ours.float(), exactly.float(), atol=0.02)
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


def test_a_model_of_half_precision():
    model = weigh_batch_norm(network()).to(torch.bfloat16)
    with batch_weights(model, WEIGHTS):
        outputs = model(torch.randn(4, 3, 8, 8, dtype=torch.bfloat16))
    outputs.square().sum().backward()
    assert outputs.dtype == torch.bfloat16
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("backend", COMPILE_BACKENDS)
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # inductor's
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's
def test_compiled_in_few_graphs_without_a_break(backend):
    torch.compiler.reset()
    plain, model = (weigh_batch_norm(network()) for _ in range(2))
    counter = torch._dynamo.testing.CompileCounterWithBackend(backend)
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    graphs = []
    batches = [torch.rand(16), torch.rand(16), torch.ones(16), torch.rand(16), torch.full((16,), 2.0)]
    batches += [torch.zeros(16), torch.rand(9), torch.rand(16), torch.rand(11)]  # any number from here
    for i, weights in enumerate(batches):
        torch.manual_seed(i)
        expected = step(plain, plain, weights)
        torch.manual_seed(i)
        assert torch.allclose(step(compiled, model, weights), expected, atol=1e-5)
        for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-4)
        for ours, theirs in zip(model.buffers(), plain.buffers(), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
        graphs.append(counter.frame_count)
    assert graphs == [1, 1, 2, 2, 2, 2, 3, 3, 3]


# -- Several processes -----------------------------------------------------------------------------

SYNCHRONIZED = """
    import sys
    import warnings
    import torch
    import torch.distributed as dist
    from infobatch.batch_norm import batch_weights, weigh_batch_norm

    rank, folder = int(sys.argv[1]), sys.argv[3]
    dist.init_process_group("gloo")
    warnings.simplefilter("error")
    try:
        layer = weigh_batch_norm(torch.nn.SyncBatchNorm(3, dtype=torch.float64))
        saved = []
        for case in torch.load(f"{folder}/cases.pt"):
            rows = slice(0, case["first"]) if rank == 0 else slice(case["first"], None)
            x = case["x"][rows].requires_grad_()
            layer.zero_grad()
            with batch_weights(layer, case["weights"][rows]):
                outputs = layer(x)
            (outputs * case["factors"][rows]).sum().backward()
            state = {key: value.clone() for key, value in layer.state_dict().items()}
            gradients = [x.grad, layer.weight.grad, layer.bias.grad]
            saved.append({"outputs": outputs.detach(), "gradients": gradients, "state": state})
        torch.save(saved, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


def test_processes_share_the_statistics_of_their_whole_batch(tmp_path):
    batches = [
        (3, [1, 2, 0.5, 1, 4, 0, 1]),
        (3, [1, 1, 1, 2, 2, 2, 2]),  # equal on each rank
        (2, [0, 0, 1, 3, 1]),  # a rank of repeats alone
        (2, [0, 0, 0, 0]),
        (3, [1, 1, 1, 1, 1]),
    ]
    cases = []
    for first, weights in batches:
        x, factors = (torch.randn(len(weights), 3, 4, 5, dtype=torch.float64) for _ in range(2))
        weights = torch.tensor(weights, dtype=torch.float64)
        cases.append({"first": first, "x": 2 + x, "weights": weights, "factors": factors})
    values, alone = torch.randn(2, 3, dtype=torch.float64), torch.tensor([3, 0], dtype=torch.float64)
    cases.append({"first": 1, "x": values, "weights": alone, "factors": values.square()})
    torch.save(cases, tmp_path / "cases.pt")
    saved = launch(SYNCHRONIZED, 2, tmp_path)
    single = weigh_batch_norm(nn.SyncBatchNorm(3, dtype=torch.float64))
    for case, *ranks in zip(cases, *saved, strict=True):
        x = case["x"].requires_grad_()
        single.zero_grad()
        with batch_shares(single, *packed_shares(case["weights"])):  # repeats by the others' statistics
            outputs = single(x)
        (outputs * case["factors"]).sum().backward()
        assert torch.allclose(torch.cat([rank["outputs"] for rank in ranks]), outputs)
        inputs, weights, biases = zip(*(rank["gradients"] for rank in ranks), strict=True)
        assert torch.allclose(torch.cat(inputs), x.grad)
        assert torch.allclose(sum(weights), single.weight.grad)
        assert torch.allclose(sum(biases), single.bias.grad)
        for key, value in single.state_dict().items():
            assert all(torch.allclose(rank["state"][key], value) for rank in ranks), key


SHARDED = """
    import sys
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from infobatch.batch_norm import is_weighed, unweigh_batch_norm, weigh_batch_norm

    dist.init_process_group("gloo")
    try:
        mesh = init_device_mesh("cpu", (1,))
        late, early = (nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3)) for _ in range(2))
        weigh_batch_norm(early)
        errors = []
        for convert, model in ((weigh_batch_norm, late), (unweigh_batch_norm, early)):
            before = is_weighed(model)
            fully_shard(model[1], mesh=mesh)
            try:
                convert(model)
            except ValueError as error:
                errors.append(str(error))
            assert is_weighed(model) is before
        weigh_batch_norm(early)  # as it is already
        torch.save(errors, f"{sys.argv[3]}/0.pt")
    finally:
        dist.destroy_process_group()
"""


@pytest.mark.skipif(not hasattr(fsdp, "fully_shard"), reason="FSDP2 came with torch 2.6")
def test_layers_that_are_sharded_by_themselves_are_refused(tmp_path):
    ((weigh, unweigh),) = launch(SHARDED, 1, tmp_path)
    assert weigh.startswith("batch norm 1 is sharded by itself (FSDPBatchNorm1d), and its class cannot")
    assert weigh.endswith("; call weigh_batch_norm(model) before fully_shard")
    assert unweigh.endswith("; call unweigh_batch_norm(model) before fully_shard")


PARALLEL = """
    import sys
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel
    from infobatch.batch_norm import batch_weights, weigh_batch_norm

    rank, folder = int(sys.argv[1]), sys.argv[3]
    dist.init_process_group("gloo")
    try:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        parallel = DistributedDataParallel(weigh_batch_norm(model))
        torch.manual_seed(1 + rank)
        for _ in range(2):  # gradients add up
            x, weights = torch.randn(6, 3), torch.rand(6)
            with batch_weights(parallel, weights):
                outputs = parallel(x)
            assert model[1]._batch is None
            (outputs.flatten().square() * weights).mean().backward()
        torch.save([p.grad for p in model.parameters()], f"{folder}/{rank}.pt")
        del parallel, outputs  # before their group; after it, their end now and then waits for ever
    finally:
        dist.destroy_process_group()
"""


def test_within_ddp(tmp_path):
    saved = launch(PARALLEL, 2, tmp_path)
    expected = []
    for rank in range(2):
        torch.manual_seed(0)
        model = weigh_batch_norm(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)))
        torch.manual_seed(1 + rank)
        for _ in range(2):
            x, weights = torch.randn(6, 3), torch.rand(6)
            with batch_weights(model, weights):
                outputs = model(x)
            (outputs.flatten().square() * weights).mean().backward()
        expected.append([p.grad for p in model.parameters()])
    for ours, *ranks in zip(saved[0], *expected, strict=True):
        assert torch.allclose(ours, sum(ranks) / 2, atol=1e-6)
