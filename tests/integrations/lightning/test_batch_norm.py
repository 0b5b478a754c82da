"""Weighted batch norm within Lightning."""

import pytest
import torch

pytest.importorskip("lightning")

from helpers.lightning import MARKS, SMALLER, Module, fit
from infobatch import weigh_batch_norm

pytestmark = MARKS


class Normalized(Module):
    def __init__(self, weighed):
        super().__init__()
        self.layers.insert(1, torch.nn.BatchNorm1d(8))
        self.shares, self.weights = [], []
        if weighed:
            weigh_batch_norm(self)

    def training_step(self, batch, batch_idx):
        found = self.layers[1].__dict__.get("_batch")
        self.shares.append(None if found is None else found.shares.tolist())
        self.weights.append(self.pruner.weights(batch[0]))
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_layers_know_the_weights_of_the_batch_that_is_in_them(accumulated):
    module, _, _ = fit(SMALLER, Normalized(weighed=True), accumulate_grad_batches=accumulated)
    for shares, weights in zip(module.shares, module.weights, strict=True):
        assert shares == pytest.approx((weights / weights.sum()).tolist())
    assert any(len(set(weights.tolist())) > 1 for weights in module.weights)
    assert "_batch" not in module.layers[1].__dict__


def test_layers_forget_the_weights_where_a_step_fails():
    class Failing(Normalized):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            raise ArithmeticError("not a step")

    module = Failing(weighed=True)
    with pytest.raises(ArithmeticError):
        fit(SMALLER, module)
    assert "_batch" not in module.layers[1].__dict__


def test_a_module_that_is_not_converted_counts_all_alike():
    module, _, _ = fit(SMALLER, Normalized(weighed=False))
    assert set(module.shares) == {None}
    assert any(len(set(weights.tolist())) > 1 for weights in module.weights)
