"""An epoch is trained once, from its beginning to its end."""

import pytest
import torch

from helpers import Numbers, batched_pruner, random_losses, record_epoch
from infobatch import DynamicPruner


def test_samples_that_were_not_selected():
    made = batched_pruner()
    record_epoch(made, random_losses(20))
    made.set_epoch(1)
    (left_out, *_) = (made.selection.weights == 0).nonzero().flatten().tolist()
    with pytest.raises(ValueError, match=f"sample {left_out} was not selected in epoch 1; pass"):
        made.update(torch.ones(1), [left_out])


def test_a_finished_epoch_is_not_iterated_again():
    made = DynamicPruner(Numbers(20), 5)
    loader = made.loader(4)
    record_epoch(made, random_losses(20))
    with pytest.raises(RuntimeError, match=r"epoch 0 is finished: .* pruner\.epochs"):
        next(iter(loader))


def test_an_epoch_without_a_single_loss_is_not_passed_over():
    made = batched_pruner()
    made.set_epoch(0)
    with pytest.raises(RuntimeError, match="without a single recorded loss"):
        made.set_epoch(1)


def test_an_epoch_is_not_begun_twice_nor_gone_back_to():
    made = batched_pruner()
    record_epoch(made, random_losses(20))
    made.set_epoch(1)
    weights = made.selection.weights.clone()
    for epoch in (1, 0):
        made.set_epoch(epoch)
        assert made.epoch == 1
        assert torch.equal(made.selection.weights, weights)


def test_an_epoch_before_the_first():
    with pytest.raises(ValueError, match="epoch -1 does not exist"):
        batched_pruner().set_epoch(-1)


def test_an_epoch_past_the_last():
    with pytest.raises(ValueError, match="epoch 5 does not exist: the run has 5"):
        batched_pruner().set_epoch(5)


def train_all_but_the_last(pruner, loader):
    for epoch in pruner.epochs():
        for indices, _ in loader:
            if epoch < pruner.num_epochs - 1:
                pruner.update(torch.rand(5), indices)


@pytest.mark.parametrize("num_epochs", [1, 3])
def test_the_last_epoch_too_must_record_losses(num_epochs):
    pruner = DynamicPruner(Numbers(20), num_epochs, delta=1)
    loader = pruner.loader(5)
    with pytest.raises(RuntimeError, match=f"epoch {num_epochs - 1} ends without a single recorded"):
        train_all_but_the_last(pruner, loader)
