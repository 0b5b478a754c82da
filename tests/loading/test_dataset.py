"""Samples carry their indices, however they are fetched, collated and copied."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Subset
from torch.utils.data._utils.pin_memory import pin_memory

from helpers import Numbers, new_pruner, random_losses, record_epoch
from infobatch import DynamicPruner, IndexedCollate, IndexedDataset, InfoBatch
from infobatch.loading import Kept


def test_whole_batches_asked_of_the_dataset():
    class Table(Numbers):
        def __getitem__(self, index):
            return torch.as_tensor(index)

    pruner = DynamicPruner(Table(20), 4, policy=InfoBatch())
    batches = BatchSampler(pruner.sampler(8), 8, drop_last=False)
    loader = DataLoader(
        IndexedDataset(pruner.dataset), sampler=batches, batch_size=None, collate_fn=IndexedCollate(list)
    )
    for indices, values in loader:
        assert indices.tolist() == [int(value) for value in values]


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_several_indices_at_once_of_any_kind(kind):
    class Table(Numbers):
        def __getitem__(self, index):
            return torch.tensor(index) * 10

    index, values = IndexedDataset(Table(20))[kind([3, 5, ~7])]
    assert list(index) == [3, 5, ~7]
    assert values.tolist() == [30, 50, 70]
    indices, _ = IndexedCollate(list)((index, values))
    assert indices.tolist() == [3, 5, ~7]


def test_getitems_of_the_dataset_is_used():
    class Fetching(Numbers):
        calls = 0

        def __getitems__(self, indices):
            self.calls += 1
            return [self[i] for i in indices]

    dataset = Fetching(20)
    for indices, batch in DynamicPruner(dataset, 2, policy=InfoBatch()).loader(5):
        assert indices.tolist() == batch.tolist()
    assert dataset.calls == 4


def test_subset_inside_and_outside():
    inside = DynamicPruner(Subset(Numbers(100), range(50, 60)), 2, policy=InfoBatch()).loader(5)
    for indices, batch in inside:
        assert (indices + 50).tolist() == batch.tolist()
    outside = DataLoader(
        Subset(IndexedDataset(Numbers(100)), [7, 3]), batch_size=2, collate_fn=IndexedCollate()
    )
    assert [indices.tolist() for indices, _ in outside] == [[7, 3]]


def test_any_map_style_object_is_a_dataset():
    for indices, batch in DynamicPruner(range(10, 30), 2, policy=InfoBatch()).loader(7):
        assert batch.tolist() == (indices + 10).tolist()


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_wrappers_and_pruner_are_copied_whole(duplicate):
    dataset = duplicate(IndexedDataset(Numbers(5)))
    assert dataset[3][0] == 3
    assert duplicate(IndexedCollate())([(1, 2.0)])[0].tolist() == [1]
    pruner = new_pruner()
    record_epoch(pruner, random_losses(60))
    other = duplicate(pruner)
    for one in (pruner, other):
        one.set_epoch(1)
    assert torch.equal(pruner.selection.weights, other.selection.weights)


def test_pinning_leaves_the_indices_alone(monkeypatch):
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: tensor.clone())
    indices, batch = next(iter(new_pruner().loader(8)))
    again, pinned = pin_memory((indices, batch))
    assert isinstance(again, np.ndarray)
    assert again.tolist() == indices.tolist()
    assert pinned is not batch
    assert torch.equal(pinned, batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pins memory for a GPU")
def test_a_pinning_loader():
    pruner = new_pruner()
    for indices, batch in pruner.loader(8, pin_memory=True, num_workers=2):
        assert isinstance(indices, np.ndarray)
        assert batch.is_pinned()
        assert indices.tolist() == batch.tolist()


def test_a_dataset_without_indices():
    with pytest.raises(TypeError, match="list_iterator is not a map-style dataset"):
        IndexedDataset(iter([1]))


class Fetched(Numbers):
    """Gives a batch at once, as a mapping of tensors."""

    def __getitems__(self, indices):
        return {"x": torch.tensor(indices)}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_may_give_a_whole_batch(workers):
    pruner = DynamicPruner(Fetched(20), 4, policy=InfoBatch())
    loader = pruner.loader(8, collate_fn=lambda batch: batch, num_workers=workers)
    batches = [(indices.tolist(), batch["x"].tolist()) for indices, batch in loader]
    assert all(indices == batch for indices, batch in batches)
    assert sorted(index for indices, _ in batches for index in indices) == list(range(20))


def test_a_list_of_another_length_is_refused():
    class Short(Numbers):
        def __getitems__(self, indices):
            return [0]

    with pytest.raises(ValueError, match="__getitems__ of Short gave a list of 1 for 5 indices"):
        next(iter(DynamicPruner(Short(20), 4, policy=InfoBatch()).loader(5)))


def readable(samples):
    """Drops every third sample, and says so."""
    kept = [place for place, sample in enumerate(samples) if sample % 3]
    return Kept(torch.tensor([samples[place] for place in kept]), kept)


def test_parts_of_a_batch_know_what_was_dropped_from_it():
    pruner = DynamicPruner(Numbers(60), 4, policy=InfoBatch(), delta=1)
    loader = pruner.loader(6, collate_fn=readable)
    for _ in pruner.epochs():
        for indices, batch in loader:
            for part in (slice(0, 2), slice(2, None)):
                pruner.record(batch[part].float(), indices[part])
        assert pruner.current.finished
    assert pruner.report().num_unreached == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_dropped_in_the_collate_function_count_as_trained(workers):
    pruner = DynamicPruner(Numbers(60), 4, policy=InfoBatch(), delta=1)
    loader = pruner.loader(6, collate_fn=readable, num_workers=workers)
    for _ in pruner.epochs():
        for indices, batch in loader:
            assert indices.tolist() == batch.tolist()
            if len(indices):
                pruner.update(batch.float(), indices)
            else:
                pruner.record(batch.float(), indices)
        assert pruner.current.finished
    visits = pruner.scores["visits"]
    assert not visits[::3].any()
    assert visits[1::3].all()
    assert pruner.scores["last_loss"][::3].isnan().all()
    assert pruner.progress == 1
    assert pruner.report().num_unreached == 0


@pytest.mark.parametrize("kept", [[0, 3], [-1], [[0]]])
def test_kept_are_positions_in_the_list(kept):
    with pytest.raises(ValueError, match=r"of 3 samples; give Kept the positions .* from 0 to 2"):
        IndexedCollate(lambda samples: Kept(samples, kept))([(i, i) for i in range(3)])


def test_indices_stay_where_they_are_whoever_sends_them():
    indices, _ = next(iter(DynamicPruner(Numbers(20), 4, policy=InfoBatch()).loader(5)))
    assert indices.to("cuda", non_blocking=True) is indices
    assert indices.cuda() is indices
    assert pin_memory(indices) is indices


class Endless(IterableDataset):
    def __iter__(self):
        return iter(range(9))


class Sized(Endless):
    def __len__(self):
        return 9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (DataLoader(range(9)), r"a DataLoader; give the dataset alone, .* pruner.loader\(batch_size"),
        ("cifar10", "the str 'cifar10'; give the dataset, not its name"),
        (Path("data"), "the PosixPath 'data'; give the dataset, not its name"),
    ],
    ids=["loader", "name", "path"],
)
def test_what_holds_or_names_a_dataset_is_none(given, message):
    with pytest.raises(TypeError, match=message):
        DynamicPruner(given, 4, policy=InfoBatch())


def test_streams_are_no_datasets():
    with pytest.raises(TypeError, match=r"a Endless, which does not tell how many .*StreamFilter"):
        DynamicPruner(Endless(), 4, policy=InfoBatch())
    with pytest.raises(TypeError, match=r"Sized is not a map-style dataset .*StreamFilter"):
        DynamicPruner(Sized(), 4, policy=InfoBatch()).loader(3)
