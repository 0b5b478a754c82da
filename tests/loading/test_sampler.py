"""Samplers: the pruner's own in a loader of the user's, and the user's own, filtered."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)

from helpers import new_pruner, random_losses, train_epoch
from infobatch import IndexedCollate, IndexedDataset


def test_a_loader_of_ones_own():
    pruner = new_pruner()
    loader = DataLoader(
        IndexedDataset(pruner.dataset),
        batch_size=8,
        sampler=pruner.sampler(8),
        collate_fn=IndexedCollate(default_collate),
    )
    losses = random_losses(60)
    for epoch in range(pruner.num_epochs):
        loader.sampler.set_epoch(epoch)
        assert pruner.epoch == epoch
        for indices, batch in loader:
            assert indices.tolist() == batch.tolist()
            pruner.update(losses[indices], indices)
        assert pruner.current.finished
    assert pruner.history[1].num_selected < 60


def test_a_loader_rebuilt_from_its_parts_keeps_identity_and_lengths():
    pruner = new_pruner()
    made = pruner.loader(8)
    loader = DataLoader(
        made.dataset, batch_sampler=made.batch_sampler, collate_fn=made.collate_fn, num_workers=2
    )
    losses = random_losses(60)
    for _ in pruner.epochs():
        promised = len(loader)
        assert len(train_epoch(pruner, loader, losses)) == promised
        assert pruner.current.finished
    assert pruner.history[1].num_selected < 60


class Following:
    """A sampler of the user's own, with an epoch."""

    def __init__(self, indices):
        self.indices = indices
        self.epoch = None

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return len(self.indices)

    def __iter__(self):
        return iter(self.indices)


def test_ones_own_sampler_is_filtered():
    pruner = new_pruner()
    mine = Following(list(range(59, -1, -1)))
    loader = pruner.loader(8, sampler=mine)
    losses = random_losses(60)
    for epoch in pruner.epochs():
        assert mine.epoch == epoch
        seen = np.concatenate(train_epoch(pruner, loader, losses)).tolist()
        assert seen == sorted(pruner.selection.indices.tolist(), reverse=True)
    assert pruner.history[2].num_selected < 60


def test_a_sampler_of_a_part_of_the_data():
    pruner = new_pruner()
    loader = pruner.loader(8, sampler=range(10, 20))
    for _ in zip(range(2), pruner.epochs(), strict=False):
        seen = np.concatenate(train_epoch(pruner, loader, random_losses(60)))
        assert set(seen) <= set(range(10, 20)) & set(pruner.selection.indices.tolist())


@pytest.mark.parametrize(
    "mine",
    [SequentialSampler(range(60)), SubsetRandomSampler(range(5, 60, 5)), RandomSampler(range(60))],
    ids=lambda sampler: type(sampler).__name__,
)
def test_samplers_of_torch_are_filtered(mine):
    pruner = new_pruner()
    loader = pruner.loader(8, sampler=mine, num_workers=2, persistent_workers=True)
    losses, trained = random_losses(60), []
    for _ in pruner.epochs():
        batches = train_epoch(pruner, loader, losses)
        assert all(len(batch) == 8 for batch in batches[:-1])
        seen = np.concatenate(batches).tolist()
        assert sorted(seen) == sorted(set(mine) & set(pruner.selection.indices.tolist()))
        trained.append(len(seen))
    assert trained[0] == trained[-1] == len(mine) > min(trained)


def test_a_filtered_sampler_has_no_length():
    loader = new_pruner().loader(8, sampler=range(60))
    with pytest.raises(TypeError, match=r"has no len\(\)"):
        len(loader)


def test_a_sampler_with_repeats_keeps_them():
    pruner = new_pruner()
    weights = torch.ones(60)
    weights[7] = 1000
    mine = WeightedRandomSampler(weights, 60, generator=torch.Generator().manual_seed(0))
    batches = train_epoch(pruner, pruner.loader(8, sampler=mine), random_losses(60))
    assert (np.concatenate(batches) == 7).sum() > 40
    assert pruner.current.user_draws.counts[7] == (np.concatenate(batches) == 7).sum()
    assert pruner.scores["visits"][7] == 1, "it was trained in one epoch"


def test_ones_own_batches_are_filtered_and_topped_up():
    pruner = new_pruner(size=120)
    batches = [list(range(start, start + 8)) for start in range(0, 120, 8)]
    mine = Following(batches)
    loader = pruner.loader(batch_sampler=mine, bucket=lambda index: index // 40)
    losses = random_losses(120)
    for epoch in pruner.epochs():
        assert mine.epoch == epoch
        seen = train_epoch(pruner, loader, losses)
        assert all(len({i // 40 for i in batch}) == 1 for batch in seen)
        assert sorted(np.concatenate(seen)) == pruner.selection.indices.tolist()
        assert sum(len(batch) != 8 for batch in seen) <= 3
    assert pruner.full_steps == 6 * 15


def test_batches_of_like_length_and_bounded_size_stay_so():
    lengths = np.random.default_rng(0).integers(1, 5, 200)
    room = {length: 24 // length for length in range(1, 5)}
    batches = []
    for length in range(1, 5):
        alike = np.flatnonzero(lengths == length).tolist()
        batches += [alike[start : start + room[length]] for start in range(0, len(alike), room[length])]
    random.shuffle(batches)
    pruner = new_pruner(size=200)
    loader = pruner.loader(batch_sampler=batches, bucket=lambda index: lengths[index])
    losses = random_losses(200)
    for epoch in pruner.epochs():
        seen = train_epoch(pruner, loader, losses)
        for batch in seen:
            (length,) = {int(lengths[i]) for i in batch}
            assert len(batch) <= room[length]
        if epoch == 0:
            assert sorted(map(sorted, seen)) == sorted(map(sorted, batches))
        assert sorted(np.concatenate(seen)) == pruner.selection.indices.tolist()
    assert pruner.history[1].num_selected < 200


def test_a_batch_sampler_of_ones_own_with_workers():
    pruner = new_pruner()
    mine = BatchSampler(SequentialSampler(range(60)), 8, drop_last=False)
    for indices, batch in pruner.loader(batch_sampler=mine, num_workers=2):
        assert indices.tolist() == batch.tolist()


ORDERS = {
    "the pruner's": lambda: {"batch_size": 8},
    "a sampler": lambda: {"batch_size": 8, "sampler": RandomSampler(range(60))},
    "batches": lambda: {"batch_sampler": BatchSampler(SequentialSampler(range(60)), 8, False)},
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shrink", ["steps", "batches"])
@pytest.mark.parametrize("persistent_workers", [False, True])
def test_a_loop_that_was_left_when_all_was_given_out_goes_on(order, shrink, persistent_workers):
    """Workers have been given the last batches long before those are trained."""
    pruner, seen = new_pruner(shrink=shrink), []
    loader = pruner.loader(num_workers=2, persistent_workers=persistent_workers, **ORDERS[order]())

    def train(stop=None):
        for epoch in pruner.epochs():
            for step, (indices, _) in enumerate(loader):
                if (epoch, step) == stop:
                    return
                pruner.update(random_losses(60)[indices], indices)
                if epoch == 1:
                    seen.extend(indices.tolist())
            if epoch == 1:
                assert sorted(seen) == pruner.selection.indices.tolist()

    train((1, 4))
    assert pruner.current.given_out
    assert not pruner.current.finished
    train()
    assert pruner.report().epochs[1].num_recorded == len(seen)


class Sizes(SequentialSampler):
    """Gives each index with a size, as for training at several resolutions."""

    def __iter__(self):
        return ((index, 32) for index in range(len(self.data_source)))


@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_what_is_no_index_is_named(shrink):
    pruner = new_pruner(shrink=shrink)
    mine = Sizes(pruner.dataset)
    with pytest.raises(TypeError, match=r"Sizes gave \(0, 32\), a tuple, where .* the integer index"):
        next(iter(pruner.loader(8, sampler=mine)))
    with pytest.raises(TypeError, match=r"BatchSampler gave \(0, 32\), a tuple"):
        next(iter(new_pruner().loader(batch_sampler=BatchSampler(mine, 8, drop_last=False))))


@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_batches_in_place_of_indices_and_the_other_way_round_are_refused(shrink):
    pruner = new_pruner(shrink=shrink)
    batches = BatchSampler(SequentialSampler(pruner.dataset), 8, drop_last=False)
    with pytest.raises(TypeError, match=r"sampler is a BatchSampler, .* give it as batch_sampler="):
        pruner.loader(8, sampler=batches)
    with pytest.raises(TypeError, match=r"list gave .*, a list, where .* batch_sampler="):
        next(iter(new_pruner(shrink=shrink).loader(8, sampler=list(batches))))
    singles = new_pruner().loader(batch_sampler=SequentialSampler(pruner.dataset))
    with pytest.raises(TypeError, match=r"SequentialSampler gave 0, a int, .* given as sampler="):
        next(iter(singles))


@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_a_sampler_that_can_be_iterated_but_once_is_refused_when_it_gives_nothing(shrink):
    once = iter(range(100))
    pruner = new_pruner(100, 3, shrink=shrink)
    loader, epochs = pruner.loader(8, sampler=once), pruner.epochs()
    next(epochs)
    assert sum(map(len, train_epoch(pruner, loader, random_losses(100)))) == 100
    next(epochs)
    with pytest.raises(ValueError, match=r"gives no samples in epoch 1, .* that can be iterated again"):
        next(iter(loader))
