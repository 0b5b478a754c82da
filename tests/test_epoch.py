"""An epoch is trained once, from its beginning to its end."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import RandomSampler

from helpers import UNMERGED, Numbers, batched_pruner, random_losses, record_epoch
from infobatch import DynamicPruner, InfoBatch, NoPruning, Sharded
from infobatch.chunks import CHUNK
from infobatch.epoch import tick_off


def test_samples_that_were_not_selected():
    made = batched_pruner()
    record_epoch(made, random_losses(20))
    made.set_epoch(1)
    (left_out, *_) = (made.selection.weights == 0).nonzero().flatten().tolist()
    with pytest.raises(ValueError, match=f"sample {left_out} was not selected in epoch 1; pass"):
        made.update(torch.ones(1), [left_out])


def test_a_finished_epoch_is_not_iterated_again():
    made = DynamicPruner(Numbers(20), 5, policy=InfoBatch())
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


def steps_of(pruner, loader, times=1, views=1):
    """Train an epoch whose batches are recorded several times, or hold each sample several times."""
    progress = []
    for indices, _ in loader:
        for _ in range(times):
            pruner.record(torch.ones(views * len(indices)), np.tile(indices, views))
        progress.append(pruner.progress * pruner.num_epochs - pruner.epoch)
    return progress


OWN = {
    "the library's": lambda: {},
    "permutation": lambda: {"sampler": range(40)},
    "with replacement": lambda: {"sampler": RandomSampler(range(40), True, 40)},
    "with replacement, read ahead": lambda: {
        "sampler": RandomSampler(range(40), True, 40, torch.Generator().manual_seed(0)),
        "num_workers": 1,
    },
    "batches": lambda: {"batch_sampler": [[i, i, i + 1, i + 1] for i in range(0, 40, 2)]},
}


@pytest.mark.parametrize("order", OWN)
@pytest.mark.parametrize(("times", "views"), [(3, 1), (1, 2)])
def test_a_sample_counts_once_however_often_it_is_recorded(order, times, views):
    pruner, own = DynamicPruner(Numbers(40), 2, policy=NoPruning()), OWN[order]()
    loader = pruner.loader(**{} if "batch_sampler" in own else {"batch_size": 4}, **own)
    for _ in pruner.epochs():
        steps = steps_of(pruner, loader, times, views)
        if views == 1 or "replacement" not in order:  # the other view of a sample that comes again
            assert steps == pytest.approx([(i + 1) / len(steps) for i in range(len(steps))])
        assert steps[-1] == 1
    report = pruner.report()
    assert report.num_recorded == report.num_full
    assert report.saved == 0


@pytest.mark.parametrize("layout", [UNMERGED, Sharded(5, reduce=torch.clone)], ids=["all", "shards"])
def test_a_repeat_counts_once_too(layout):
    traces = []
    for times in (1, 3):
        pruner = DynamicPruner(Numbers(43), 2, rank=1, num_replicas=2, layout=layout, policy=InfoBatch())
        traces.append(steps_of(pruner, pruner.loader(4), times))
        assert pruner.current.finished
    assert traces[0] == traces[1]


def test_losses_may_be_recorded_in_turns_over_several_batches():
    pruner = DynamicPruner(Numbers(40), 2, policy=InfoBatch())
    batches = list(pruner.loader(4))
    for start in range(0, 10, 2):
        for _ in range(2):
            for indices, _ in batches[start : start + 2]:
                pruner.record(torch.ones(4), indices)
    assert pruner.current.finished


@pytest.mark.parametrize("own", [{}, {"sampler": range(40)}], ids=str)
def test_kept_batches_are_not_trained_for_ever(own):
    pruner = DynamicPruner(Numbers(40), 2, policy=InfoBatch())
    loader = itertools.cycle(pruner.loader(4, **own))
    for _ in range(10):
        pruner.record(torch.ones(4), next(loader)[0])
    with pytest.raises(RuntimeError, match=r"epoch 0 is finished: .* this batch is one of them again"):
        pruner.record(torch.ones(4), next(loader)[0])


def test_kept_batches_in_another_order_are_not_trained_for_ever():
    pruner = DynamicPruner(Numbers(40), 2, policy=InfoBatch())
    batches = [indices for indices, _ in pruner.loader(4)]
    for indices in batches:
        pruner.record(torch.ones(4), indices)
    mixed = np.concatenate(batches).reshape(4, 10).T.ravel()
    for indices in np.split(mixed, 10):
        pruner.record(torch.ones(4), indices)
    with pytest.raises(RuntimeError, match="epoch 0 is finished"):
        pruner.record(torch.ones(4), mixed[:4])


def test_a_finished_run_has_no_epochs_to_train_and_says_so():
    pruner = DynamicPruner(Numbers(40), 2, policy=InfoBatch())
    for _ in pruner.epochs():
        record_epoch(pruner, random_losses(40))
    with pytest.warns(UserWarning, match="has trained its 2 epochs, .* make a new pruner"):
        assert list(pruner.epochs()) == []


def train_all_but_the_last(pruner, loader):
    for epoch in pruner.epochs():
        for indices, _ in loader:
            if epoch < pruner.num_epochs - 1:
                pruner.update(torch.rand(5), indices)


@pytest.mark.parametrize("num_epochs", [1, 3])
def test_the_last_epoch_too_must_record_losses(num_epochs):
    pruner = DynamicPruner(Numbers(20), num_epochs, delta=1, policy=InfoBatch())
    loader = pruner.loader(5)
    with pytest.raises(RuntimeError, match=f"epoch {num_epochs - 1} ends without a single recorded"):
        train_all_but_the_last(pruner, loader)


@pytest.mark.parametrize("size", [7, CHUNK, 5 * CHUNK // 2])
def test_what_a_batch_of_any_size_repeats_is_counted_once(size):
    rng = np.random.default_rng(0)
    recorded, marks = np.zeros(size, bool), np.empty(size, np.uint16)
    for _ in range(2):
        places = rng.integers(0, size, size)
        before = np.flatnonzero(recorded)
        assert tick_off(recorded, places, marks) == len(np.setdiff1d(places, before))
        assert np.array_equal(np.flatnonzero(recorded), np.union1d(before, places))
