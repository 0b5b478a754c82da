"""Batches carry their samples' identity, and lengths are what they seem."""

import copy
import gc
import pickle
import weakref
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler
from torchdata.stateful_dataloader import StatefulDataLoader

from helpers import batched_pruner, new_pruner, random_losses, train_epoch, without_address
from infobatch import DynamicPruner, InfoBatch, NoiseBudget, NoPruning


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


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("kind", COLLATES)
@pytest.mark.parametrize("drop_last", [False, True])
def test_indices_belong_to_their_samples(kind, workers, drop_last):
    collate, values = COLLATES[kind]
    pruner = new_pruner()
    loader = pruner.loader(8, collate_fn=collate, drop_last=drop_last, **WORKERS[workers])
    for _ in zip(range(3), pruner.epochs(), strict=False):
        for indices, batch in loader:
            assert indices.dtype == np.int64
            assert values(batch).tolist() == indices.tolist()
            pruner.update(random_losses(60)[indices], indices)
    assert pruner.history[1].num_selected < 60


def test_spawned_workers():
    pruner = new_pruner(size=12)
    loader = pruner.loader(4, num_workers=1, multiprocessing_context="spawn")
    seen = [(indices.tolist(), batch.tolist()) for indices, batch in loader]
    assert all(indices == values for indices, values in seen)
    assert sorted(i for indices, _ in seen for i in indices) == list(range(12))


def test_workers_that_answer_out_of_order():
    pruner = new_pruner()
    loader = pruner.loader(8, num_workers=2, in_order=False)
    losses = random_losses(60)
    for _ in pruner.epochs():
        for indices, batch in loader:
            assert batch.tolist() == indices.tolist()
            pruner.update(losses[batch.long()], indices)
        assert pruner.current.finished
    assert torch.equal(pruner.scores["last_loss"], losses)


def test_a_batch_fetched_ahead_keeps_its_identity():
    pruner = new_pruner()
    losses = random_losses(60)
    for current, _ in pairwise(pruner.loader(8)):
        indices, batch = current
        pruner.update(losses[batch.long()], indices)
    recorded = pruner.scores["last_loss"]
    scored = ~recorded.isnan()
    assert int(scored.sum()) == 56
    assert torch.equal(recorded[scored], losses[scored])


def test_batches_fetched_in_groups_keep_their_identity():
    pruner = new_pruner()
    loader = pruner.loader(8)
    losses = random_losses(60)
    for _ in pruner.epochs():
        batches = iter(loader)
        while group := list(islice(batches, 3)):
            for indices, batch in group:
                pruner.update(losses[batch.long()], indices)
        assert pruner.current.finished
    assert torch.equal(pruner.scores["last_loss"], losses)


def test_two_iterators_at_once():
    pruner = new_pruner()
    loader = pruner.loader(8)
    for (one, first), (other, second) in zip(loader, loader, strict=True):
        assert one.tolist() == other.tolist() == first.tolist() == second.tolist()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_single_item_at_a_time(num_workers):
    pruner = new_pruner(size=9)
    loader = pruner.loader(batch_size=None, num_workers=num_workers)
    seen = []
    for indices, value in loader:
        assert indices.tolist() == [value]
        pruner.update(value.reshape(1), indices)
        seen.append(int(value))
    assert sorted(seen) == list(range(9))
    assert len(loader) == 9


@pytest.mark.parametrize("loader_class", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_length_is_right_at_every_moment(workers, drop_last, loader_class):
    pruner = new_pruner()
    loader = pruner.loader(8, drop_last=drop_last, loader_class=loader_class, **WORKERS[workers])
    losses, lengths = random_losses(60), []
    for _ in pruner.epochs():
        promised = [len(loader)]
        iterator = iter(loader)
        promised.append(len(loader))
        count = 0
        for indices, _ in iterator:
            promised.append(len(loader))
            pruner.update(losses[indices], indices)
            count += 1
        assert set(promised) == {count}
        lengths.append(count)
    assert min(lengths) < max(lengths)


@pytest.mark.parametrize("workers", WORKERS)
def test_an_epoch_broken_off_goes_on_and_the_next_one_can_begin(workers):
    pruner = new_pruner()
    loader = pruner.loader(8, **WORKERS[workers])
    losses = random_losses(60)
    first = []
    for step, (indices, _) in enumerate(loader):
        pruner.update(losses[indices], indices)
        first += indices.tolist()
        if step == 2:
            break
    rest = [i for indices, _ in loader for i in indices.tolist()]
    assert first + rest == pruner.current.order.tolist()
    pruner.set_epoch(1)
    assert pruner.history[0].num_recorded == 24
    seen = np.concatenate(train_epoch(pruner, loader, losses))
    assert seen.tolist() == pruner.current.order.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 64}, "batch_size .*beside batch_sampler"),
        ({"sampler": range(60)}, "sampler .*beside batch_sampler"),
        ({"batch_size": 8, "sampler": range(60), "drop_last": True}, "batch_size and sampler and drop"),
    ],
)
def test_a_batch_sampler_makes_the_batches_alone(options, message):
    batches = BatchSampler(range(60), 8, False)
    with pytest.raises(ValueError, match=message):
        new_pruner().loader(batch_sampler=batches, **options)
    assert len(next(iter(new_pruner().loader(batch_sampler=batches)))[0]) == 8


def test_shuffle_false():
    with pytest.raises(ValueError, match="shuffle=False has no meaning here"):
        batched_pruner().loader(4, shuffle=False)


@pytest.mark.parametrize("shrink", ["steps", "batches"])
@pytest.mark.parametrize("batch_size", [8.5, "8", True])
def test_a_batch_size_is_a_whole_number(batch_size, shrink):
    make = {"loader": lambda: new_pruner(shrink=shrink).loader(batch_size)}
    make["sampler"] = lambda: new_pruner(shrink="steps").sampler(batch_size)
    make["batch_sampler"] = lambda: new_pruner(shrink="batches").batch_sampler(batch_size)
    make["filter"] = lambda: new_pruner(shrink="steps").filter(range(60), batch_size)
    for each in make.values():
        with pytest.raises(TypeError, match=rf"batch_size is {batch_size!r}; it must be a whole number"):
            each()
    assert len(new_pruner(shrink=shrink).loader(np.int64(8))) == 8


def test_a_loader_is_not_kept_alive_by_its_pruner():
    pruner = DynamicPruner(range(40), 3, policy=InfoBatch())
    loader = pruner.loader(4, loader_class=StatefulDataLoader)
    reference = weakref.ref(loader)
    gc.disable()
    try:
        del loader
        assert reference() is None
    finally:
        gc.enable()
    for indices in np.split(np.arange(40), 10):
        pruner.record(torch.ones(4), indices)
    pruner.load_state_dict(pruner.state_dict())
    pruner.set_epoch(1)


@pytest.mark.parametrize(
    "options", [{"loader_class": StatefulDataLoader}, {"sampler": range(40)}], ids=str
)
def test_a_pruner_with_a_loader_can_be_copied(options):
    pruner = DynamicPruner(range(40), 3, policy=InfoBatch())
    loader = pruner.loader(4, **options)
    for clone in (copy.deepcopy(pruner), pickle.loads(pickle.dumps(pruner))):
        assert clone.progress == pruner.progress
        assert len(list(clone.loader(4, **options))) == len(list(loader)) == 10


class Repeated:
    """A batch sampler that is iterated without an end."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        while True:
            yield from self.batches


class MultiEpochsLoader(DataLoader):
    """Keeps its workers by never ending, as timm's MultiEpochsDataLoader does."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        object.__setattr__(self, "batch_sampler", Repeated(self.batch_sampler))
        self.iterator = super().__iter__()

    def __iter__(self):
        return islice(self.iterator, len(self.batch_sampler.batches))


def ahead(loader):
    """The batches of a loader, one read ahead, and over its end."""
    batches = (batch for _ in iter(int, 1) for batch in loader)
    return (first for first, _ in pairwise(batches))


@pytest.mark.parametrize(
    ("options", "reads"),
    [
        ({"loader_class": MultiEpochsLoader, "num_workers": 1}, iter),
        ({}, ahead),
        ({"sampler": range(60)}, ahead),
        ({"batch_sampler": [[i, i + 1] for i in range(0, 60, 2)], "batch_size": 1}, ahead),
    ],
    ids=without_address,
)
def test_a_loader_that_reads_into_the_next_epoch_is_refused(options, reads):
    pruner = new_pruner()
    batches = reads(pruner.loader(**{"batch_size": 8, **options}))

    def train():
        for indices, _ in batches:
            pruner.update(torch.ones(len(indices)), indices)

    with pytest.raises(RuntimeError, match=r"epoch 0 has been given out to its end, but only \d+ of"):
        train()


def test_looks_at_a_loader_are_no_passes():
    pruner = new_pruner(policy=NoPruning())
    loader = pruner.loader(8)
    seen = []
    assert len(list(loader)) == 8
    for indices, _ in islice(loader, 3):
        pruner.update(torch.ones(8), indices)
        seen += indices.tolist()
    assert len(list(loader)) == 5
    for indices, _ in loader:
        pruner.update(torch.ones(len(indices)), indices)
        seen += indices.tolist()
    assert sorted(seen) == list(range(60))


def test_a_frameworks_own_count_of_epochs_is_not_heard_where_the_loop_tells():
    """Fabric and Accelerate count each iteration of a loader, a look at its first batch, too."""
    pruner = new_pruner(policy=NoPruning())
    loader = pruner.loader(8)
    for counted, epoch in enumerate(pruner.epochs(), 1):
        loader.sampler.set_epoch(counted)
        assert pruner.epoch == epoch
        assert sum(map(len, train_epoch(pruner, loader, random_losses(60)))) == 60


ORDERS = {
    "the pruner's": {"batch_size": 8},
    "a sampler": {"batch_size": 8, "sampler": range(60)},
    "a batch sampler": {"batch_sampler": BatchSampler(range(60), 8, drop_last=False)},
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_frameworks_do_not_share_out_a_share(order, shrink):
    assert isinstance(new_pruner(shrink=shrink).loader(**order).sampler, DistributedSampler)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_a_script_that_tells_the_loaders_sampler_of_epochs_begins_them(order, shrink):
    pruner = new_pruner(policy=NoiseBudget(1.5), shrink=shrink)
    loader, sizes = pruner.loader(**order), []
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)
        assert pruner.epoch == epoch
        sizes.append(sum(map(len, train_epoch(pruner, loader, random_losses(60)))))
    assert sizes[0] == 60
    assert max(sizes[1:]) < 60


class Growing(Dataset):
    """Samples in a list, of which a worker sees those that there were when it began."""

    def __init__(self, size):
        self.values = list(range(size))

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index]


@pytest.mark.parametrize("loader_class", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_persistent_workers_are_renewed_when_the_dataset_grows(loader_class, shrink):
    dataset = Growing(60)
    pruner = DynamicPruner(dataset, 4, policy=NoPruning(), shrink=shrink)
    options = {"num_workers": 1, "persistent_workers": True}
    loader = pruner.loader(10, loader_class=loader_class, **options)
    pids = []
    for epoch in pruner.epochs():
        seen = []
        for indices, values in loader:
            assert values.tolist() == indices.tolist()
            seen += values.tolist()
            pruner.update(torch.rand(len(indices)), indices)
        assert sorted(seen) == list(range(len(dataset)))
        [worker] = loader._iterator._workers
        pids.append(worker.pid)
        if epoch == 1:
            dataset.values += range(60, 80)
            ended = worker
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert not ended.is_alive()


OTHER_BATCHES = {
    "the pruner's": ({"batch_size": 10}, {"batch_size": 30}),
    "dropped": ({"batch_size": 10}, {"batch_size": 10, "drop_last": True}),
    "a sampler": ({"batch_size": 10, "sampler": range(60)}, {"batch_size": 30, "sampler": range(60)}),
    "a part": ({"batch_size": 10, "sampler": range(60)}, {"batch_size": 10, "sampler": range(30)}),
}


@pytest.mark.parametrize(("options", "others"), OTHER_BATCHES.values(), ids=OTHER_BATCHES)
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_a_loader_is_not_changed_by_another_of_its_pruner(options, others, shrink):
    pruner = new_pruner(shrink=shrink)
    loader, latest = pruner.loader(**options), pruner.loader(**others)
    with pytest.raises(
        RuntimeError, match=r"made last has batches of .*, but this one has batches of 10"
    ):
        next(iter(loader))
    assert len(next(iter(latest))[0]) == others["batch_size"]
    pruner.loader(**options)
    assert [len(indices) for indices, _ in loader] == [10] * 6


@pytest.mark.parametrize("own", [{}, {"sampler": range(60)}], ids=str)
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_a_loader_that_is_made_once_more_is_as_good(own, shrink):
    pruner = new_pruner(shrink=shrink)
    first, second = pruner.loader(10, **own), pruner.loader(10, **own)
    for epoch in pruner.epochs():
        seen = train_epoch(pruner, second if epoch % 2 else first, random_losses(60))
        assert sorted(np.concatenate(seen)) == pruner.selection.indices.tolist()
