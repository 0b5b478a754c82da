"""Faults of the code people use for this method today, each with what goes wrong there."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Subset
from torch.utils.data.dataloader import _BaseDataLoaderIter

from helpers import Numbers, random_losses, record_epoch, train_epoch
from infobatch import DynamicPruner, InfoBatch, KeepProbabilities, ScoreTable, draw


def second_epoch(size=100, **options):
    """A pruner in its first pruned epoch."""
    pruner = DynamicPruner(Numbers(size), 10, **options)
    pruner.sampler(8)
    record_epoch(pruner, random_losses(size))
    pruner.set_epoch(1)
    return pruner


@pytest.mark.parametrize("drop_last", [False, True])
def test_fault_01_iterating_draws_nothing(drop_last):
    """The selection is drawn at each iter(), which BatchSampler calls for every batch."""
    pruner = second_epoch()
    sampler = pruner.sampler(8)
    weights = pruner.selection.weights.clone()
    batches = list(BatchSampler(sampler, 8, drop_last))
    assert len(batches) == (len(sampler) // 8 if drop_last else math.ceil(len(sampler) / 8))
    iterator = iter(sampler)
    assert iter(iterator) is iterator
    assert list(sampler) == list(sampler)
    assert torch.equal(pruner.selection.weights, weights)


@pytest.mark.parametrize("num_epochs", [10, 12, 90, 100, 300])
def test_fault_02_annealing_has_weight_1_where_delta_c_is_not_whole(num_epochs):
    """Weights are never reset in the annealing phase."""
    pruner = DynamicPruner(Numbers(20), num_epochs)
    pruner.sampler(5)
    losses = random_losses(20)
    for epoch in pruner.epochs():
        annealing = epoch >= 0.875 * num_epochs
        assert (pruner.selection.num_selected == 20) == (annealing or epoch == 0)
        assert (pruner.selection.weights.max() > 1) != (annealing or epoch == 0)
        record_epoch(pruner, losses)


def test_fault_03_wrappers_forward_nothing():
    """A forwarding __getattr__ recurses in pickle and copy, and an inner __getitems__ bypasses it."""
    dataset = DynamicPruner(Subset(Numbers(10), range(5)), 2).loader(2).dataset
    assert not hasattr(dataset, "indices")
    assert pickle.loads(pickle.dumps(dataset)).__getitems__([1])[0][0] == 1
    assert copy.deepcopy(dataset)[2][0] == 2


def test_fault_04_other_loaders_are_untouched():
    """Importing it replaces a method of every DataLoader in the process."""
    assert _BaseDataLoaderIter.__next__.__module__ == "torch.utils.data.dataloader"
    assert [batch.tolist() for batch in DataLoader(Numbers(4), 2)] == [[0, 1], [2, 3]]


def test_fault_05_a_loader_that_fetches_ahead_updates_the_right_samples():
    """A hidden "current batch" gives 99 of 99 updates to the wrong samples."""
    pruner = DynamicPruner(Numbers(100), 2)
    losses = random_losses(100)
    fetched = list(pruner.loader(8))
    for samples, batch in fetched:
        pruner.update(losses[batch.long()], samples)
    assert torch.equal(pruner.scores["last_loss"], losses)


@pytest.mark.parametrize("function", ["exp", "sqrt", "sigmoid", "relu", "logsumexp", "norm"])
def test_fault_06_the_losses_are_not_changed(function):
    """An in-place mul_ on the loss makes backward fail and changes the caller's tensor."""
    pruner = second_epoch()
    samples = pruner.current.order[:6].numpy()
    inputs = torch.rand(6, 3, requires_grad=True)
    if function == "logsumexp":
        losses = inputs.logsumexp(1)
    elif function == "norm":
        losses = inputs.norm(dim=1)
    else:
        losses = getattr(inputs.sum(1), function)()
    before = losses.detach().clone()
    pruner.update(losses, samples).backward()
    assert torch.equal(losses.detach(), before)
    assert inputs.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_fault_07_every_float_dtype_is_taken(dtype):
    """Half, bfloat16 and float64 losses raise a dtype error."""
    pruner = second_epoch()
    samples = pruner.current.order[:4].numpy()
    losses = torch.tensor([0.5, 1.5, 2.0, 3.0], dtype=dtype, requires_grad=True)
    pruner.update(losses, samples).backward()
    assert pruner.scores["last_loss"].dtype == torch.float32
    assert pruner.scores["last_loss"][samples].tolist() == [0.5, 1.5, 2.0, 3.0]
    assert losses.grad.dtype == dtype


def test_fault_08_indices_are_exact_above_2_to_the_24():
    """Indices gathered in the loss's dtype are wrong above 2**24 in float32, 256 in bfloat16."""
    size = 2**24 + 3
    pruner = DynamicPruner(range(size), 2, policy=InfoBatch(0))
    samples = np.array([2**24, 2**24 + 1, 70_001])
    pruner.record(torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16), samples)
    assert pruner.scores["last_loss"][samples].tolist() == [1, 2, 3]
    assert int(pruner.scores["visits"].sum()) == 3


def test_fault_09_a_step_reads_nothing_from_the_device():
    """A blocking copy to the host in every step; a meta tensor has no data that could be read."""
    pruner = second_epoch()
    samples = pruner.current.order[:6].numpy()
    losses = torch.ones(6, device="meta", requires_grad=True)
    loss = pruner.update(losses, samples)
    assert loss.device.type == "meta"
    loss.backward()
    pruner.weigh(losses, samples)
    pruner.record(losses, samples)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        _ = pruner.scores


def test_fault_10_the_length_is_this_epochs():
    """len(loader) is that of the previous epoch."""
    pruner = DynamicPruner(Numbers(100), 6)
    loader = pruner.loader(8)
    for _ in pruner.epochs():
        promised = len(loader)
        assert len(train_epoch(pruner, loader, random_losses(100))) == promised


def test_fault_11_the_seed_counts_and_no_global_state_is_set():
    """np.random.seed(epoch) makes all seeds draw alike and resets the user's stream."""
    before = np.random.get_state()[1].copy()
    selections = [second_epoch(seed=seed).selection.indices.tolist() for seed in (0, 1, 0)]
    assert selections[0] == selections[2] != selections[1]
    assert (np.random.get_state()[1] == before).all()


def test_fault_12_looking_at_a_sampler_or_batch_advances_nothing():
    """Reading .sampler prunes; peeking at a batch advances the annealing counter."""
    pruner = second_epoch()
    loader = pruner.loader(8)
    weights = pruner.selection.weights.clone()
    for _ in range(20):
        next(iter(loader))
        assert len(loader.sampler) == pruner.selection.num_selected
    assert pruner.epoch == 1
    assert torch.equal(pruner.selection.weights, weights)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_fault_13_a_bad_number_is_contained(bad):
    """One NaN stops all pruning; one infinity prunes half of everything."""
    pruner = DynamicPruner(Numbers(100), 10)
    pruner.sampler(8)
    losses = random_losses(100)
    spoilt = losses.clone()
    spoilt[17] = bad
    record_epoch(pruner, spoilt)
    pruner.set_epoch(1)
    below = (losses < losses[torch.arange(100) != 17].double().mean()).sum() - (losses[17] < 1).int()
    assert 100 - pruner.selection.num_selected == pytest.approx(int(below) / 2, abs=1)
    assert pruner.selection.weights[17] == 1
    assert pruner.scores["last_loss"][17].isnan()


def test_fault_14_the_mean_of_equal_scores_is_that_score():
    """A float32 mean of 14,197,122 equal scores lies above them: half the set is pruned blindly."""
    size = 14_197_122
    table = ScoreTable(size)
    table.record(np.arange(size), np.full(size, 0.1, dtype=np.float32))
    keep = InfoBatch().keep_probabilities(table, None, torch.Generator())
    assert int(keep.strata.sum()) == 0


@pytest.mark.parametrize(("size", "kept"), [(3, 2), (1, 1), (2, 1), (5, 2)])
def test_fault_15_small_groups_keep_their_sum(size, kept):
    """Of 3 below the threshold 1 is kept with weight 2; of 1, none."""
    keep = KeepProbabilities(torch.tensor([0.5]), torch.zeros(size, dtype=torch.uint8))
    selection = draw(keep, torch.Generator().manual_seed(0))
    assert selection.num_selected == kept
    assert float(selection.weights.sum()) == pytest.approx(size, rel=1e-6)


def test_fault_16_a_resumed_run_knows_its_scores_and_its_epoch():
    """There is no state_dict: scores and the annealing counter restart."""
    pruner = second_epoch()
    other = DynamicPruner(Numbers(100), 10)
    other.sampler(8)
    other.load_state_dict(pruner.state_dict())
    assert other.epoch == 1
    assert torch.equal(other.scores["last_loss"], pruner.scores["last_loss"])
    assert torch.equal(other.selection.weights, pruner.selection.weights)


def test_fault_18_persistent_workers_see_no_stale_weights():
    """Workers keep the first epoch's weights where weights travel in the dataset."""
    pruner = DynamicPruner(Numbers(100), 4)
    loader = pruner.loader(8, num_workers=1, persistent_workers=True)
    losses, sums = random_losses(100), []
    for _ in pruner.epochs():
        sums.append(sum(float(pruner.weights(s).sum()) for s in train_epoch(pruner, loader, losses)))
    assert sums == pytest.approx([100] * 4, rel=1e-6)


def test_fault_20_gradients_flow_through_every_term():
    """A detection fork rebuilds its per-box loss with torch.tensor: box losses give no gradient."""
    pruner = second_epoch()
    samples = pruner.current.order[:4].numpy()
    classes, boxes = torch.rand(4, requires_grad=True), torch.rand(4, 5, requires_grad=True)
    pruner.update(classes**2 + boxes.square().mean(1), samples).backward()
    weights = pruner.weights(samples)
    assert torch.allclose(classes.grad, 2 * classes.detach() * weights / 4)
    assert torch.allclose(boxes.grad, 2 * boxes.detach() / 5 * weights[:, None] / 4)
