"""Batches carry their samples' identity, and lengths, order and random states are what they seem."""

import copy
import pickle
import random
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)
from torch.utils.data._utils.pin_memory import pin_memory
from torchdata.stateful_dataloader import StatefulDataLoader

from helpers import Numbers, random_losses, record_epoch, train_epoch
from infobatch import DynamicPruner, IndexedCollate, IndexedDataset, InfoBatch, NoPruning
from infobatch.seeding import epoch_generator


class Box:
    def __init__(self, samples):
        self.values = torch.stack(samples)


def as_dict(samples):
    return {"value": torch.stack(samples), "text": [str(int(s)) for s in samples]}


COLLATES = {
    "tensor": (None, lambda batch: batch),
    "tuple": (lambda samples: (torch.stack(samples), len(samples)), lambda batch: batch[0]),
    "dict": (as_dict, lambda batch: batch["value"]),
    "object": (Box, lambda batch: batch.values),
}
WORKERS = {
    "main": {},
    "workers": {"num_workers": 2},
    "persistent": {"num_workers": 2, "persistent_workers": True},
}


def pruned(size=60, num_epochs=6, **options):
    pruner = DynamicPruner(Numbers(size), num_epochs, **options)
    return pruner


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("kind", COLLATES)
@pytest.mark.parametrize("drop_last", [False, True])
def test_indices_belong_to_their_samples(kind, workers, drop_last):
    collate, values = COLLATES[kind]
    pruner = pruned()
    loader = pruner.loader(8, collate_fn=collate, drop_last=drop_last, **WORKERS[workers])
    for _ in zip(range(3), pruner.epochs(), strict=False):
        for samples, batch in loader:
            assert samples.dtype == np.int64
            assert values(batch).tolist() == samples.tolist()
            pruner.update(random_losses(60)[samples], samples)
    assert pruner.history[1].num_selected < 60


def test_spawned_workers():
    pruner = pruned(size=12)
    loader = pruner.loader(4, num_workers=1, multiprocessing_context="spawn")
    seen = [(samples.tolist(), batch.tolist()) for samples, batch in loader]
    assert all(samples == values for samples, values in seen)
    assert sorted(i for samples, _ in seen for i in samples) == list(range(12))


def test_workers_that_answer_out_of_order():
    pruner = pruned()
    loader = pruner.loader(8, num_workers=2, in_order=False)
    losses = random_losses(60)
    for _ in pruner.epochs():
        for samples, batch in loader:
            assert batch.tolist() == samples.tolist()
            pruner.update(losses[batch.long()], samples)
        assert pruner.current.finished
    assert torch.equal(pruner.scores["last_loss"], losses)


def test_a_batch_fetched_ahead_keeps_its_identity():
    pruner = pruned()
    losses = random_losses(60)
    for current, _ in pairwise(pruner.loader(8)):
        samples, batch = current
        pruner.update(losses[batch.long()], samples)
    recorded = pruner.scores["last_loss"]
    scored = ~recorded.isnan()
    assert int(scored.sum()) == 56
    assert torch.equal(recorded[scored], losses[scored])


def test_batches_fetched_in_groups_keep_their_identity():
    pruner = pruned()
    loader = pruner.loader(8)
    losses = random_losses(60)
    for _ in pruner.epochs():
        batches = iter(loader)
        while group := list(islice(batches, 3)):
            for samples, batch in group:
                pruner.update(losses[batch.long()], samples)
        assert pruner.current.finished
    assert torch.equal(pruner.scores["last_loss"], losses)


def test_two_iterators_at_once():
    pruner = pruned()
    loader = pruner.loader(8)
    for (one, first), (other, second) in zip(loader, loader, strict=True):
        assert one.tolist() == other.tolist() == first.tolist() == second.tolist()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_single_item_at_a_time(num_workers):
    pruner = pruned(size=9)
    loader = pruner.loader(batch_size=None, num_workers=num_workers)
    seen = []
    for samples, value in loader:
        assert samples.tolist() == [value]
        pruner.update(value.reshape(1), samples)
        seen.append(int(value))
    assert sorted(seen) == list(range(9))
    assert len(loader) == 9


def test_whole_batches_asked_of_the_dataset():
    class Table(Numbers):
        def __getitem__(self, index):
            return torch.as_tensor(index)

    pruner = DynamicPruner(Table(20), 4)
    batches = BatchSampler(pruner.sampler(8), 8, drop_last=False)
    loader = DataLoader(
        IndexedDataset(pruner.dataset), sampler=batches, batch_size=None, collate_fn=IndexedCollate(list)
    )
    for samples, values in loader:
        assert samples.tolist() == [int(value) for value in values]


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_several_indices_at_once_of_any_kind(kind):
    class Table(Numbers):
        def __getitem__(self, index):
            return torch.tensor(index) * 10

    index, values = IndexedDataset(Table(20))[kind([3, 5, ~7])]
    assert list(index) == [3, 5, ~7]
    assert values.tolist() == [30, 50, 70]
    samples, _ = IndexedCollate(list)((index, values))
    assert samples.tolist() == [3, 5, ~7]


def test_getitems_of_the_dataset_is_used():
    class Fetching(Numbers):
        calls = 0

        def __getitems__(self, indices):
            self.calls += 1
            return [self[i] for i in indices]

    dataset = Fetching(20)
    for samples, batch in DynamicPruner(dataset, 2).loader(5):
        assert samples.tolist() == batch.tolist()
    assert dataset.calls == 4


def test_subset_inside_and_outside():
    inside = DynamicPruner(Subset(Numbers(100), range(50, 60)), 2).loader(5)
    for samples, batch in inside:
        assert (samples + 50).tolist() == batch.tolist()
    outside = DataLoader(
        Subset(IndexedDataset(Numbers(100)), [7, 3]), batch_size=2, collate_fn=IndexedCollate()
    )
    assert [samples.tolist() for samples, _ in outside] == [[7, 3]]


def test_any_map_style_object_is_a_dataset():
    for samples, batch in DynamicPruner(range(10, 30), 2).loader(7):
        assert batch.tolist() == (samples + 10).tolist()


def test_a_loader_of_ones_own():
    pruner = pruned()
    loader = DataLoader(
        IndexedDataset(pruner.dataset),
        batch_size=8,
        sampler=pruner.sampler(8),
        collate_fn=IndexedCollate(default_collate),
    )
    losses = random_losses(60)
    for epoch in range(pruner.num_epochs):
        loader.sampler.set_epoch(epoch)
        loader.sampler.set_epoch(0)
        assert pruner.epoch == epoch
        for samples, batch in loader:
            assert samples.tolist() == batch.tolist()
            pruner.update(losses[samples], samples)
        assert pruner.current.finished
    assert pruner.history[1].num_selected < 60


def test_a_loader_rebuilt_from_its_parts_keeps_identity_and_lengths():
    pruner = pruned()
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


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("policy", [NoPruning(), InfoBatch(0)], ids=["none", "ratio 0"])
def test_nothing_pruned_is_a_plain_shuffled_loader(policy, drop_last):
    dataset = Numbers(50)
    pruner = DynamicPruner(dataset, 4, policy=policy, seed=3)
    loader = pruner.loader(8, drop_last=drop_last)
    for epoch in pruner.epochs():
        sampler = RandomSampler(dataset, generator=epoch_generator(3, epoch))
        plain = DataLoader(dataset, 8, sampler=sampler, drop_last=drop_last)
        ours = [batch.tolist() for _, batch in loader]
        assert ours == [batch.tolist() for batch in plain]
        train_epoch(pruner, loader, random_losses(50))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("policy", [NoPruning(), InfoBatch(0)], ids=["none", "ratio 0"])
def test_training_with_nothing_pruned_is_plain_training_bit_for_bit(policy, num_workers):
    dataset = TensorDataset(torch.randn(50, 4), torch.randn(50))

    def fit(batches, mean):
        torch.manual_seed(0)
        layers = torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.2)
        model = torch.nn.Sequential(*layers, torch.nn.Linear(8, 1))
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        values = []
        for samples, (x, y) in batches:
            loss = mean((model(x).squeeze(1) - y) ** 2, samples)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            values.append(loss.item())
        return values, {name: value.tolist() for name, value in model.state_dict().items()}

    pruner = DynamicPruner(dataset, 3, policy=policy, seed=5)
    loader = pruner.loader(8, num_workers=num_workers)
    ours = fit((batch for _ in pruner.epochs() for batch in loader), pruner.update)
    plain = []
    for epoch in range(3):
        sampler = RandomSampler(dataset, generator=epoch_generator(5, epoch))
        plain += [(None, batch) for batch in DataLoader(dataset, 8, sampler=sampler)]
    assert len(plain) == pruner.full_steps
    assert ours == fit(plain, lambda losses, _: losses.mean())


@pytest.mark.parametrize("loader_class", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_length_is_right_at_every_moment(workers, drop_last, loader_class):
    pruner = pruned()
    loader = pruner.loader(8, drop_last=drop_last, loader_class=loader_class, **WORKERS[workers])
    losses, lengths = random_losses(60), []
    for _ in pruner.epochs():
        promised = [len(loader)]
        iterator = iter(loader)
        promised.append(len(loader))
        count = 0
        for samples, _ in iterator:
            promised.append(len(loader))
            pruner.update(losses[samples], samples)
            count += 1
        assert set(promised) == {count}
        lengths.append(count)
    assert min(lengths) < max(lengths)


def test_looking_changes_nothing():
    def run(look):
        pruner = pruned(seed=2)
        loader = pruner.loader(8)
        seen = []
        for _ in pruner.epochs():
            if look:
                next(iter(loader))
                _ = len(loader), list(loader.sampler), pruner.progress, pruner.scores, pruner.selection
                pruner.state_dict(), pruner.report()
                _ = pruner.predict_saving() if pruner.epoch else None
                pruner.set_epoch(pruner.epoch)
                pruner.set_epoch(0)
            seen.append([batch.tolist() for batch in train_epoch(pruner, loader, random_losses(60))])
        return seen

    assert run(look=True) == run(look=False)


@pytest.mark.parametrize("look", ["epoch", "current", "selection", "progress", "scores", "report"])
def test_looking_before_the_loader_is_made_changes_nothing(look):
    pruner = pruned()
    value = getattr(pruner, look)
    if callable(value):
        value()
    assert len(pruner.loader(8)) == 8


class Seeds(Numbers):
    """Sample i is the seed that its worker has for random transforms."""

    def __getitem__(self, index):
        return torch.initial_seed()


def test_looking_leaves_the_seeds_of_the_workers_as_they_were():
    def seeds(look):
        pruner = DynamicPruner(Seeds(8), 2, seed=3)
        loader = pruner.loader(4, num_workers=1)
        if look:
            next(iter(loader))
        return [batch.tolist() for _, batch in loader]

    assert seeds(look=True) == seeds(look=False)


@pytest.mark.parametrize("loader_class", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_global_random_states_are_left_alone(num_workers, loader_class):
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    pruner = pruned()
    loader = pruner.loader(8, num_workers=num_workers, loader_class=loader_class)
    for _ in pruner.epochs():
        train_epoch(pruner, loader, random_losses(60))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_the_seed_decides_order_and_selection():
    def orders(seed):
        pruner = pruned(seed=seed)
        record_epoch(pruner, random_losses(60))
        first = pruner.current.order
        pruner.set_epoch(1)
        return first.tolist(), pruner.selection.indices.tolist()

    assert orders(1) == orders(1)
    assert orders(1)[0] != orders(2)[0]
    assert orders(1)[1] != orders(2)[1]


def test_the_order_is_a_part_of_the_full_one():
    pruner = pruned(seed=4)
    record_epoch(pruner, random_losses(60))
    pruner.set_epoch(1)
    kept = set(pruner.selection.indices.tolist())
    permutation = torch.randperm(60, generator=epoch_generator(4, 1)).tolist()
    assert 30 < len(kept) < 60
    assert pruner.current.order.tolist() == [i for i in permutation if i in kept]


@pytest.mark.parametrize("workers", WORKERS)
def test_an_epoch_broken_off_goes_on_and_the_next_one_can_begin(workers):
    pruner = pruned()
    loader = pruner.loader(8, **WORKERS[workers])
    losses = random_losses(60)
    first = []
    for step, (samples, _) in enumerate(loader):
        pruner.update(losses[samples], samples)
        first += samples.tolist()
        if step == 2:
            break
    rest = [i for samples, _ in loader for i in samples.tolist()]
    assert first + rest == pruner.current.order.tolist()
    pruner.set_epoch(1)
    assert pruner.history[0].num_recorded == 24
    seen = np.concatenate(train_epoch(pruner, loader, losses))
    assert seen.tolist() == pruner.current.order.tolist()


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
    pruner = pruned()
    mine = Following(list(range(59, -1, -1)))
    loader = pruner.loader(8, sampler=mine)
    losses = random_losses(60)
    for epoch in pruner.epochs():
        assert mine.epoch == epoch
        seen = np.concatenate(train_epoch(pruner, loader, losses)).tolist()
        assert seen == sorted(pruner.selection.indices.tolist(), reverse=True)
    assert pruner.history[2].num_selected < 60


def test_a_sampler_of_a_part_of_the_data():
    pruner = pruned()
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
    pruner = pruned()
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
    loader = pruned().loader(8, sampler=range(60))
    with pytest.raises(TypeError, match=r"has no len\(\)"):
        len(loader)


def test_a_sampler_with_repeats_keeps_them():
    pruner = pruned()
    weights = torch.ones(60)
    weights[7] = 1000
    mine = WeightedRandomSampler(weights, 60, generator=torch.Generator().manual_seed(0))
    batches = train_epoch(pruner, pruner.loader(8, sampler=mine), random_losses(60))
    assert (np.concatenate(batches) == 7).sum() > 40
    assert pruner.scores["visits"][7] == sum(7 in batch for batch in batches)


def test_ones_own_batches_are_filtered_and_topped_up():
    pruner = pruned(size=120)
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
    pruner = pruned(size=200)
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
    pruner = pruned()
    mine = BatchSampler(SequentialSampler(range(60)), 8, drop_last=False)
    for samples, batch in pruner.loader(batch_sampler=mine, num_workers=2):
        assert samples.tolist() == batch.tolist()


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_wrappers_and_pruner_are_copied_whole(duplicate):
    dataset = duplicate(IndexedDataset(Numbers(5)))
    assert dataset[3][0] == 3
    assert duplicate(IndexedCollate())([(1, 2.0)])[0].tolist() == [1]
    pruner = pruned()
    record_epoch(pruner, random_losses(60))
    other = duplicate(pruner)
    for one in (pruner, other):
        one.set_epoch(1)
    assert torch.equal(pruner.selection.weights, other.selection.weights)


def test_pinning_leaves_the_indices_alone(monkeypatch):
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: tensor.clone())
    samples, batch = next(iter(pruned().loader(8)))
    again, pinned = pin_memory((samples, batch))
    assert isinstance(again, np.ndarray)
    assert again.tolist() == samples.tolist()
    assert pinned is not batch
    assert torch.equal(pinned, batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pins memory for a GPU")
def test_a_pinning_loader():
    pruner = pruned()
    for samples, batch in pruner.loader(8, pin_memory=True, num_workers=2):
        assert isinstance(samples, np.ndarray)
        assert batch.is_pinned()
        assert samples.tolist() == batch.tolist()
