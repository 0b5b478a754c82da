"""With torch.compile a step trains what it does without."""

import pytest
import torch

from helpers import COMPILE_BACKENDS, in_pruned_epoch


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's
def test_inside_a_compiled_step(backend):
    pruner, indices = in_pruned_epoch()
    inputs, weight = torch.randn(8, 3), torch.ones(3, requires_grad=True)

    def step(indices):
        losses = (inputs @ weight).square()
        return pruner.update(losses, indices)

    weights, sums = pruner.weights(indices), inputs.sum(1)
    loss = torch.compile(step, backend=backend)(indices)
    loss.backward()
    shown = (weights * sums.square()).mean() / pruner.mean_weight
    torch.testing.assert_close(loss.detach(), shown)
    torch.testing.assert_close(weight.grad, 2 * (weights * sums) @ inputs / 8)
    assert torch.allclose(pruner.scores["last_loss"][indices], inputs.sum(1).square())


@pytest.mark.parametrize("backend", COMPILE_BACKENDS)
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # inductor's
def test_with_a_compiled_model(backend):
    def train(compile_model):
        torch.manual_seed(0)
        torch.compiler.reset()
        model = torch.nn.Linear(3, 1)
        forward = torch.compile(model, backend=backend) if compile_model else model
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        pruner, _ = in_pruned_epoch()
        order = pruner.current.order.numpy()
        for start in (0, 8, 16):
            indices = order[start : start + 8]
            inputs = torch.rand(8, 3)
            pruner.update(forward(inputs).squeeze(1).square(), indices).backward()
            optimizer.step()
            optimizer.zero_grad()
        return model.weight.detach(), pruner.scores["last_loss"]

    for ours, plain in zip(train(compile_model=True), train(compile_model=False), strict=True):
        assert torch.allclose(ours, plain, rtol=1e-5)
