"""Faults of the code people use for this method today, each with what goes wrong there."""

import copy
import math
import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, Subset
from torch.utils.data.dataloader import _BaseDataLoaderIter

from helpers import Numbers, in_pruned_epoch, random_losses, record_epoch, train_epoch
from helpers.policies import POLICIES, made
from infobatch import (
    DynamicPruner,
    IndexedCollate,
    IndexedDataset,
    InfoBatch,
    classification_gradient_norms,
)
from infobatch.policies import KeepProbabilities, Proportional, Request
from infobatch.scores import ScoreTable
from infobatch.selection import draw


def second_epoch(**options):
    """A pruner in its first pruned epoch."""
    return in_pruned_epoch(**options)[0]


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


def test_fault_01_a_loader_without_a_dropped_batch_ends_and_one_with_it_prunes():
    """The epoch never ends without drop_last; with it pruning silently never happens."""
    for drop_last in (False, True):
        pruner = DynamicPruner(Numbers(100), 4, policy=InfoBatch())
        loader = pruner.loader(8, drop_last=drop_last)
        sizes = [sum(map(len, train_epoch(pruner, loader, random_losses(100)))) for _ in pruner.epochs()]
        full = 96 if drop_last else 100
        assert [size < full for size in sizes] == [False, True, True, False]


@pytest.mark.parametrize("num_epochs", [10, 12, 90, 100, 300])
def test_fault_02_annealing_has_weight_1_where_delta_c_is_not_whole(num_epochs):
    """Weights are never reset in the annealing phase."""
    pruner = DynamicPruner(Numbers(20), num_epochs, policy=InfoBatch())
    pruner.sampler(5)
    losses = random_losses(20)
    for epoch in pruner.epochs():
        annealing = epoch >= 0.875 * num_epochs
        assert (pruner.selection.num_selected == 20) == (annealing or epoch == 0)
        assert (pruner.selection.weights.max() > 1) != (annealing or epoch == 0)
        record_epoch(pruner, losses)


def test_fault_03_wrappers_forward_nothing():
    """A forwarding __getattr__ recurses in pickle and copy, and an inner __getitems__ bypasses it."""
    dataset = DynamicPruner(Subset(Numbers(10), range(5)), 2, policy=InfoBatch()).loader(2).dataset
    assert not hasattr(dataset, "indices")
    assert pickle.loads(pickle.dumps(dataset)).__getitems__([1])[0][0] == 1
    assert copy.deepcopy(dataset)[2][0] == copy.copy(dataset)[2][0] == 2


def test_fault_03_a_pruner_can_be_copied():
    """Pickle and deepcopy recurse for ever."""
    pruner = second_epoch()
    for clone in (copy.deepcopy(pruner), pickle.loads(pickle.dumps(pruner))):
        assert torch.equal(clone.selection.weights, pruner.selection.weights)
        assert clone.epoch == 1


class Fetching(Numbers):
    """Fetches a batch at once, as Subset and Hugging Face datasets do."""

    def __getitems__(self, indices):
        return [self[index] * 10 for index in indices]


def test_fault_03_fetching_a_batch_at_once_keeps_the_indices():
    """An inner __getitems__ bypasses the wrapper, so that samples come without their indices."""
    for indices, batch in DynamicPruner(Fetching(10), 2, policy=InfoBatch()).loader(4):
        assert (indices * 10 == batch.numpy()).all()


def test_fault_04_other_loaders_are_untouched():
    """Importing it replaces a method of every DataLoader in the process."""
    assert _BaseDataLoaderIter.__next__.__module__ == "torch.utils.data.dataloader"
    assert [batch.tolist() for batch in DataLoader(Numbers(4), 2)] == [[0, 1], [2, 3]]


def test_fault_05_a_loader_that_fetches_ahead_updates_the_right_samples():
    """A hidden "current batch" gives 99 of 99 updates to the wrong samples."""
    pruner = DynamicPruner(Numbers(100), 2, policy=InfoBatch())
    losses = random_losses(100)
    fetched = list(pruner.loader(8))
    for indices, batch in fetched:
        pruner.update(losses[batch.long()], indices)
    assert torch.equal(pruner.scores["last_loss"], losses)


def test_fault_04_custom_collate_no_batching_and_subsets_work():
    """A custom collate_fn, batch_size=None and a Subset of the wrapper fail."""
    pruner = DynamicPruner(Numbers(10), 2, policy=InfoBatch())
    custom = pruner.loader(5, collate_fn=lambda batch: {"x": torch.stack(batch)})
    assert all((indices == batch["x"].numpy()).all() for indices, batch in custom)
    single = list(DynamicPruner(Numbers(10), 2, policy=InfoBatch()).loader(None))
    assert sorted(int(x) for _, x in single) == list(range(10))
    assert all(indices.shape == (1,) and int(indices[0]) == int(x) for indices, x in single)
    subset = Subset(IndexedDataset(Numbers(10)), [7, 3])
    ((indices, batch),) = DataLoader(subset, 2, collate_fn=IndexedCollate())
    assert indices.tolist() == batch.tolist() == [7, 3]


@pytest.mark.parametrize("function", ["exp", "sqrt", "sigmoid", "relu", "logsumexp", "norm"])
def test_fault_06_the_losses_are_not_changed(function):
    """An in-place mul_ on the loss makes backward fail and changes the caller's tensor."""
    pruner = second_epoch()
    indices = pruner.current.order[:6].numpy()
    inputs = torch.rand(6, 3, requires_grad=True)
    if function == "logsumexp":
        losses = inputs.logsumexp(1)
    elif function == "norm":
        losses = inputs.norm(dim=1)
    else:
        losses = getattr(inputs.sum(1), function)()
    before = losses.detach().clone()
    pruner.update(losses, indices).backward()
    assert torch.equal(losses.detach(), before)
    assert inputs.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_fault_07_every_float_dtype_is_taken(dtype):
    """Half, bfloat16 and float64 losses raise a dtype error."""
    pruner = second_epoch()
    indices = pruner.current.order[:4].numpy()
    losses = torch.tensor([0.5, 1.5, 2.0, 3.0], dtype=dtype, requires_grad=True)
    pruner.update(losses, indices).backward()
    assert pruner.scores["last_loss"].dtype == torch.float32
    assert pruner.scores["last_loss"][indices].tolist() == [0.5, 1.5, 2.0, 3.0]
    assert losses.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", POLICIES)
def test_fault_07_any_dtype_may_be_the_default(dtype, name):
    """Weights and scores are float32, and a checkpoint of them loads."""

    def run():
        pruner = DynamicPruner(Numbers(60), 5, policy=made(POLICIES[name], 60), delta=1)
        loader, states = pruner.loader(10), []
        for epoch in pruner.epochs():
            losses = random_losses(60, seed=epoch)
            for indices, _ in loader:
                pruner.update(losses[indices], indices, **dict.fromkeys(pruner.signals, losses[indices]))
            if pruner.policy.refreshes and len(left := pruner.left_out):
                pruner.observe(losses[left], left, **dict.fromkeys(pruner.signals, losses[left]))
            states.append(pruner.state_dict())
        return states

    expected = run()
    torch.set_default_dtype(dtype)
    try:
        states = run()
        resumed = DynamicPruner(Numbers(60), 5, policy=made(POLICIES[name], 60), delta=1)
        resumed.loader(10)
        resumed.load_state_dict(states[-1])
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(expected, states, strict=True):
        assert torch.equal(one["weights"], other["weights"])
        assert one["weights"].dtype == other["weights"].dtype == torch.float32
        for column, values in one["scores"]["columns"].items():
            assert torch.equal(values.nan_to_num(), other["scores"]["columns"][column].nan_to_num())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_fault_07_every_float_dtype_may_have_samples_without_a_score(dtype):
    """Half and bfloat16 losses raise an error."""
    pruner = DynamicPruner(Numbers(10), 2, policy=InfoBatch())
    pruner.update(torch.ones(2, dtype=dtype), [3, 4], scored=torch.tensor([True, False]))
    assert pruner.scores["last_loss"][3] == 1
    assert pruner.scores["last_loss"][4].isnan()
    assert pruner.report().num_nonfinite == 0


def test_fault_08_indices_are_exact_above_2_to_the_24():
    """Indices gathered in the loss's dtype are wrong above 2**24 in float32, 256 in bfloat16."""
    size = 2**24 + 3
    pruner = DynamicPruner(range(size), 2, policy=InfoBatch(0))
    indices = np.array([2**24, 2**24 + 1, 70_001])
    pruner.record(torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16), indices)
    assert pruner.scores["last_loss"][indices].tolist() == [1, 2, 3]
    assert int(pruner.scores["visits"].sum()) == 3


@pytest.mark.parametrize("kind", [np.int32, np.uint64, torch.int16, torch.int64, list])
def test_fault_08_indices_of_any_integer_kind_become_int64(kind):
    """Indices are carried in the loss's dtype."""
    pruner = DynamicPruner(Numbers(300), 2, policy=InfoBatch())
    indices = np.array([299, 257, 3])
    if isinstance(kind, torch.dtype):
        indices = torch.tensor(indices).to(kind)
    else:
        indices = indices.tolist() if kind is list else indices.astype(kind)
    pruner.record(torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16), indices)
    assert pruner.scores["last_loss"][[299, 257, 3]].tolist() == [1, 2, 3]
    assert [int(i) for i in pruner.scores["visits"].nonzero()] == [3, 257, 299]


def test_fault_09_a_step_reads_nothing_from_the_device():
    """A blocking copy to the host in every step; a meta tensor has no data that could be read."""
    pruner = second_epoch()
    indices = pruner.current.order[:6].numpy()
    losses = torch.ones(6, device="meta", requires_grad=True)
    loss = pruner.update(losses, indices)
    assert loss.device.type == "meta"
    loss.backward()
    pruner.weigh(losses, indices)
    pruner.record(losses, indices, scored=torch.ones(6, dtype=torch.bool, device="meta"))
    assert pruner.progress > 0.1
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        _ = pruner.scores
    by_norms = DynamicPruner(Numbers(6), 3, policy=Proportional(by="gradient_norm"), normalizer="mean")
    logits, labels = torch.ones(6, 3, device="meta"), torch.ones(6, dtype=torch.int64, device="meta")
    norms = classification_gradient_norms(logits, labels)
    by_norms.update(losses, range(6), gradient_norms=norms).backward()


@pytest.mark.parametrize("drop_last", [False, True])
def test_fault_10_the_length_is_this_epochs(drop_last):
    """len(loader) is that of the previous epoch."""
    pruner = DynamicPruner(Numbers(100), 6, policy=InfoBatch())
    loader = pruner.loader(8, drop_last=drop_last)
    promises = set()
    for _ in pruner.epochs():
        promised = len(loader)
        assert len(train_epoch(pruner, loader, random_losses(100))) == promised
        promises.add(promised)
    assert len(promises) > 1


def test_fault_10_a_step_based_schedule_does_not_drift():
    """OneCycle made for full data stops before its end, or raises in the last epoch."""
    pruner = DynamicPruner(Numbers(100), 6, policy=InfoBatch())
    loader = pruner.loader(8)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=pruner.full_steps)
    scheduler = pruner.lr_scheduler(one_cycle)
    for _ in pruner.epochs():
        for indices, _ in loader:
            pruner.update(random_losses(100)[indices], indices)
            optimizer.step()
            scheduler.step()
    assert one_cycle.last_epoch == pruner.full_steps


def test_fault_11_the_seed_counts_and_no_global_state_is_set():
    """np.random.seed(epoch) makes all seeds draw alike and resets the user's stream."""
    selections = [second_epoch(seed=seed).selection.indices.tolist() for seed in (0, 1, 0)]
    assert selections[0] == selections[2] != selections[1]


def test_fault_11_training_neither_reads_nor_sets_a_global_stream():
    """np.random.seed(epoch) resets the user's stream."""
    streams = np.random.get_state()[1].copy(), torch.get_rng_state(), random.getstate()
    orders = []
    for global_seed in (0, 1):
        pruner = DynamicPruner(Numbers(50), 4, policy=InfoBatch())
        loader = pruner.loader(8)
        torch.manual_seed(global_seed)
        for _ in pruner.epochs():
            orders.append(np.concatenate(train_epoch(pruner, loader, random_losses(50))).tolist())
    assert orders[:4] == orders[4:]
    assert torch.equal(torch.get_rng_state(), torch.manual_seed(1).get_state())
    torch.set_rng_state(streams[1])
    assert (np.random.get_state()[1] == streams[0]).all()
    assert random.getstate() == streams[2]


def test_fault_12_looking_at_a_sampler_or_batch_advances_nothing():
    """Reading .sampler prunes; peeking at a batch advances the annealing counter."""
    pruner = second_epoch()
    loader = pruner.loader(8)
    weights = pruner.selection.weights.clone()
    for _ in range(20):
        next(iter(loader))
        assert len(loader.sampler) == pruner.selection.num_selected
    progress = pruner.progress
    for attribute in ("epoch", "num_epochs", "full_steps", "selection", "scores", "history"):
        getattr(pruner, attribute)
    str(pruner.report()), pruner.predict_saving(), pruner.state_dict()
    assert pruner.epoch == 1
    assert pruner.progress == progress
    assert torch.equal(pruner.selection.weights, weights)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_fault_13_a_bad_number_is_contained(bad):
    """One NaN stops all pruning; one infinity prunes half of everything."""
    pruner = DynamicPruner(Numbers(100), 10, policy=InfoBatch())
    pruner.sampler(8)
    losses = random_losses(100)
    spoilt = losses.clone()
    spoilt[17] = bad
    record_epoch(pruner, spoilt)
    pruner.set_epoch(1)
    others = losses[torch.arange(100) != 17]
    below = int((others < others.double().mean()).sum())
    assert pruner.selection.num_selected == 100 - below + round(below / 2)
    assert pruner.selection.weights[17] == 1
    assert pruner.scores["last_loss"][17].isnan()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_fault_13_a_bad_number_is_counted_and_reported(bad):
    """One NaN stops all pruning, silently."""
    pruner = second_epoch()
    known = pruner.scores["last_loss"].clone()
    indices = pruner.current.order[:3].numpy()
    pruner.record(torch.tensor([bad, 1.0, bad]), indices)
    assert pruner.report().num_nonfinite == 2
    assert "2 losses or signals were NaN or infinite" in str(pruner.report())
    assert pruner.scores["last_loss"][indices].tolist() == [known[indices[0]], 1, known[indices[2]]]


def test_fault_13_a_run_that_has_diverged_prunes_nothing():
    """An infinite mean lies above everything."""
    pruner = DynamicPruner(Numbers(20), 10, policy=InfoBatch())
    pruner.sampler(4)
    record_epoch(pruner, torch.full((20,), math.inf))
    with pytest.warns(UserWarning, match="all losses of epoch 0 were NaN or infinite"):
        pruner.set_epoch(1)
    assert pruner.selection.num_selected == 20


@settings(deadline=None)
@given(st.floats(0, width=32, allow_infinity=False, allow_nan=False), st.integers(1, 1000))
def test_fault_14_no_score_lies_below_the_mean_of_equal_ones(score, size):
    """The mean of equal scores, rounded, lies above them."""
    table = ScoreTable.from_losses(np.full(size, score, np.float32))
    keep = InfoBatch().keep_probabilities(table, Request(None, torch.Generator()))
    assert int(keep.strata.sum()) == 0


def test_fault_14_the_mean_of_equal_scores_is_that_score():
    """A float32 mean of 14,197,122 equal scores lies above them: half the set is pruned blindly."""
    size = 14_197_122
    table = ScoreTable(size)
    table.record(np.arange(size), np.full(size, 0.1, dtype=np.float32))
    keep = InfoBatch().keep_probabilities(table, Request(None, torch.Generator()))
    assert int(keep.strata.sum()) == 0


@pytest.mark.parametrize(("size", "kept"), [(3, 2), (1, 1), (2, 1), (5, 2)])
def test_fault_15_small_groups_keep_their_sum(size, kept):
    """Of 3 below the threshold 1 is kept with weight 2; of 1, none."""
    keep = KeepProbabilities(torch.tensor([0.5]), torch.zeros(size, dtype=torch.uint8))
    selection = draw(keep, torch.Generator().manual_seed(0))
    assert selection.num_selected == kept
    assert float(selection.weights.sum()) == pytest.approx(size, rel=1e-6)


def test_fault_15_a_single_sample_below_the_mean_stays_in():
    """Of 1 sample below the threshold none is kept."""
    losses = torch.tensor([0.0] + [1.0] * 99)
    pruner = DynamicPruner(Numbers(100), 10, policy=InfoBatch())
    pruner.sampler(8)
    record_epoch(pruner, losses)
    for epoch in range(1, 9):
        pruner.set_epoch(epoch)
        assert pruner.selection.num_selected == 100
        assert pruner.selection.weights[0] == 1
        record_epoch(pruner, losses)


def test_fault_16_a_resumed_run_anneals_where_it_would_have():
    """The annealing counter restarts, so that a resumed run prunes to its end."""
    pruner = second_epoch()
    other = DynamicPruner(Numbers(100), 10, policy=InfoBatch())
    other.sampler(8)
    other.load_state_dict(pruner.state_dict())
    pruned = []
    for epoch in other.epochs():
        pruned.append((epoch, other.selection.num_selected < 100))
        record_epoch(other, random_losses(100))
    assert pruned == [(epoch, epoch < 9) for epoch in range(1, 10)]


def test_fault_16_a_resumed_run_knows_its_scores_and_its_epoch():
    """There is no state_dict: scores and the annealing counter restart."""
    pruner = second_epoch()
    other = DynamicPruner(Numbers(100), 10, policy=InfoBatch())
    other.sampler(8)
    other.load_state_dict(pruner.state_dict())
    assert other.epoch == 1
    assert torch.equal(other.scores["last_loss"], pruner.scores["last_loss"])
    assert torch.equal(other.selection.weights, pruner.selection.weights)


def test_fault_18_persistent_workers_see_no_stale_weights():
    """Workers keep the first epoch's weights where weights travel in the dataset."""
    pruner = DynamicPruner(Numbers(100), 4, policy=InfoBatch())
    loader = pruner.loader(8, num_workers=1, persistent_workers=True)
    losses, sums = random_losses(100), []
    for _ in pruner.epochs():
        sums.append(sum(float(pruner.weights(s).sum()) for s in train_epoch(pruner, loader, losses)))
    assert sums == pytest.approx([100] * 4, rel=1e-6)


def test_fault_20_gradients_flow_through_every_term():
    """A detection fork rebuilds its per-box loss with torch.tensor: box losses give no gradient."""
    pruner = second_epoch()
    indices = pruner.current.order[:4].numpy()
    classes, boxes = torch.rand(4, requires_grad=True), torch.rand(4, 5, requires_grad=True)
    pruner.update(classes**2 + boxes.square().mean(1), indices).backward()
    weights = pruner.weights(indices)
    assert torch.allclose(classes.grad, 2 * classes.detach() * weights / 4)
    assert torch.allclose(boxes.grad, 2 * boxes.detach() / 5 * weights[:, None] / 4)
