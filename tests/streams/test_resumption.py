"""A stream's filter skips what was recorded, and nothing else may skip it too."""

from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info
from torchdata.stateful_dataloader import StatefulDataLoader

from helpers.streams import BATCH, EPOCHS, SIZE, Endless, Shards, make
from helpers.training import random_losses
from infobatch import DynamicPruner, RandomPruning
from infobatch.streams.filter import ENTRY, StreamFilter


def start(workers, shrink="steps", loader_class=DataLoader):
    pruner, keep, stream = make(stream=Shards(), shrink=shrink)
    if shrink == "batches":
        return (
            pruner,
            keep,
            loader_class(stream.batched(), None, collate_fn=default_collate, num_workers=workers),
        )
    return pruner, keep, loader_class(stream, BATCH, num_workers=workers)


def train(keep, batches):
    for batch in batches:
        indices = keep.indices(batch[ENTRY])
        keep.update(random_losses(SIZE)[indices], batch[ENTRY])
        yield from indices.tolist()


@pytest.mark.parametrize("shrink", ["steps", "batches"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("num_batches", [1, 2, 5])
def test_a_stateful_loader_skips_nothing(workers, shrink, num_batches):
    _, keep, loader = run = start(workers, shrink, StatefulDataLoader)
    trained = list(train(keep, islice(loader, num_batches)))
    states = run[0].state_dict(), loader.state_dict()
    pruner, keep, loader = start(workers, shrink, StatefulDataLoader)
    pruner.load_state_dict(states[0])
    loader.load_state_dict(states[1])
    assert sorted([*trained, *train(keep, loader)]) == list(range(SIZE))
    pruner.set_epoch(1)
    assert len(list(train(keep, loader))) == pruner.selection.num_selected


@pytest.mark.parametrize("num_batches", [1, 3, 5])
def test_a_loop_that_skips_too(num_batches):
    run = start(0)
    list(train(run[1], islice(run[2], num_batches)))
    pruner, keep, loader = start(0)
    pruner.load_state_dict(run[0].state_dict())
    list(train(keep, islice(loader, num_batches, None)))
    with pytest.raises(RuntimeError, match=r"epoch 0 was resumed after .*[Bb]oth skip"):
        pruner.set_epoch(1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_last_batch_that_is_dropped(workers):
    run = start(0)
    list(train(run[1], islice(run[2], 1)))
    pruner, keep, stream = make(stream=Shards())
    pruner.load_state_dict(run[0].state_dict())
    loader = DataLoader(stream, BATCH, drop_last=True, num_workers=workers)
    assert len(list(train(keep, loader))) < SIZE - BATCH
    pruner.set_epoch(1)


class Interleaved(IterableDataset):
    """Ids that workers share out one by one."""

    def __iter__(self):
        worker = get_worker_info()
        return ({"id": number} for number in range(worker.id, 200, worker.num_workers))


def test_a_last_batch_that_each_worker_drops():
    """As many samples are missing as were trained before, about."""

    def start():
        pruner, size = DynamicPruner(range(200), EPOCHS, shrink="steps"), 40
        keep = StreamFilter(pruner, "id", size)
        return pruner, keep, DataLoader(keep(Interleaved()), size, drop_last=True, num_workers=2)

    def record(keep, batches):
        for batch in batches:
            keep.update(torch.ones(40), batch[ENTRY])

    pruner, keep, loader = start()
    record(keep, islice(loader, 1))
    resumed, keep, loader = start()
    resumed.load_state_dict(pruner.state_dict())
    record(keep, loader)
    assert resumed.current.num_recorded == 160
    resumed.set_epoch(1)


class Decoded(IterableDataset):
    """Passes over samples that cannot be decoded."""

    def __init__(self, stream, broken):
        self.stream, self.broken = stream, broken

    def __iter__(self):
        return (sample for sample in self.stream if sample["id"] not in self.broken)


def test_samples_that_are_lost_behind_the_filter_are_told_of():
    def start():
        pruner, keep, stream = make(stream=Shards())
        return pruner, keep, DataLoader(Decoded(stream, range(0, SIZE, 2)), BATCH)

    pruner, keep, loader = start()
    trained = list(train(keep, islice(loader, 1)))
    resumed, keep, loader = start()
    resumed.load_state_dict(pruner.state_dict())
    trained += train(keep, loader)
    assert sorted(trained) == list(range(1, SIZE, 2))
    with pytest.warns(UserWarning, match=r"resumed after .* drops samples .*, or both skip, the filter"):
        resumed.set_epoch(1)


def start_endless(shrink):
    pruner, keep, stream = make(stream=Endless(), shrink=shrink, policy=RandomPruning(0.5), delta=1)
    if shrink == "batches":
        return pruner, keep, DataLoader(stream.batched(), None, collate_fn=default_collate)
    return pruner, keep, DataLoader(stream, BATCH)


def train_endless(run, stop=None):
    """The samples of each epoch, of a loop that cuts it; until ``stop`` steps were trained."""
    (pruner, keep, loader), trained, num_steps = run, {}, 0
    for epoch in pruner.epochs():
        trained[epoch] = []
        for batch in islice(loader, keep.num_batches_left):
            trained[epoch] += train(keep, [batch])
            num_steps += 1
            if num_steps == stop:
                return trained
        if stop is None:
            pruner.end_epoch()
    return trained


@pytest.mark.parametrize("shrink", ["steps", "batches"])
@pytest.mark.parametrize("stop", range(1, 13))
def test_an_endless_stream_trains_each_epoch_once(shrink, stop):
    whole, first, resumed = (start_endless(shrink) for _ in range(3))
    expected = train_endless(whole)
    before = train_endless(first, stop)
    resumed[0].load_state_dict(first[0].state_dict())  # within an epoch, or where it was left
    after = train_endless(resumed)
    for epoch, samples in expected.items():
        both = before.get(epoch, []) + after.get(epoch, [])
        assert set(both) == set(samples), epoch
        assert len(both) < len(set(both)) + BATCH, "no more than the last batch has from the next round"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("is_dropped", [True, False], ids=["a last batch", "a broken sample"])
def test_what_a_loader_dropped_does_not_keep_the_next_epoch_from_beginning(workers, is_dropped):
    """The run is saved where the loop has come to the end of an epoch."""

    def begin():
        pruner, keep, stream = make(stream=Shards())
        source = stream if is_dropped else Decoded(stream, [7])
        return pruner, keep, DataLoader(source, BATCH, drop_last=is_dropped, num_workers=workers)

    pruner, keep, loader = begin()
    num_trained = len(list(train(keep, loader)))
    assert SIZE - 2 * BATCH < num_trained < SIZE
    resumed, keep, loader = begin()
    resumed.load_state_dict(pruner.state_dict())
    epochs = []
    for epoch in resumed.epochs():
        epochs.append((epoch, len(list(train(keep, loader)))))
    assert epochs[0] == (0, 0)
    assert [epoch for epoch, _ in epochs] == list(range(EPOCHS))
