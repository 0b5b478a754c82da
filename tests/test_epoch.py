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


def test_epochs_come_one_after_another():
    made = batched_pruner()
    with pytest.raises(ValueError, match=r"epoch 1 cannot be the first.*counts from 1 call set_epoch\("):
        made.set_epoch(1)
    record_epoch(made, random_losses(20))
    made.set_epoch(1)
    weights = made.selection.weights.clone()
    made.set_epoch(1)
    with pytest.raises(ValueError, match="epoch 0 is over: the run is in epoch 1, and never goes back"):
        made.set_epoch(0)
    with pytest.raises(ValueError, match="epoch 3 is not the next: the run is in epoch 1"):
        made.set_epoch(3)
    assert made.epoch == 1
    assert torch.equal(made.selection.weights, weights)


def test_an_epoch_before_the_first():
    with pytest.raises(ValueError, match="epoch -1 does not exist"):
        batched_pruner().set_epoch(-1)


def test_an_epoch_past_the_last():
    with pytest.raises(ValueError, match="epoch 5 does not exist: the run has 5"):
        batched_pruner().set_epoch(5)
