"""Workers see which samples pass, epoch by epoch, and where an epoch was left."""

from itertools import chain, islice

import pytest
import torch
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import DataLoader, IterableDataset

from helpers import random_losses
from helpers.streams import BATCH, EPOCHS, SIZE, Shards, make, train_epoch
from infobatch import RandomPruning
from infobatch.streams.filter import ENTRY


@pytest.mark.parametrize(
    ("workers", "num_shards", "extra"),
    [
        (0, 5, {}),
        (2, 5, {}),
        (2, 5, {"persistent_workers": True, "prefetch_factor": 4}),
        (2, 1, {"persistent_workers": True}),  # one of them without a shard
        (1, 5, {"persistent_workers": True, "multiprocessing_context": "spawn"}),
    ],
    ids=str,
)
def test_workers_see_each_epoch_and_its_end(workers, num_shards, extra):
    pruner, keep, stream = make(stream=Shards(num_shards=num_shards))
    loader = DataLoader(stream, BATCH, num_workers=workers, **extra)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    scheduler = pruner.lr_scheduler(LinearLR(optimizer, 1, 0.1, pruner.full_steps))
    optimizer.step()
    losses = random_losses(SIZE)
    for epoch in pruner.epochs():
        assert pruner.progress == epoch / EPOCHS
        seen = []
        for batch in loader:
            assert not pruner.current.finished
            indices = keep.indices(batch[ENTRY])
            assert torch.equal(keep.weights(batch[ENTRY]), pruner.selection.weights[indices])
            keep.update(losses[indices], batch[ENTRY])
            scheduler.step()
            seen += indices.tolist()
        assert sorted(seen) == pruner.selection.indices.tolist()
        assert pruner.current.finished
        assert pruner.progress == (epoch + 1) / EPOCHS
    assert scheduler.get_last_lr() == [pytest.approx(0.01)]
    assert pruner.report().saved > 0.1
    assert pruner.report().num_unreached == 0


class Naive(IterableDataset):
    def __init__(self, pruner, stream):
        self.pruner, self.stream = pruner, stream

    def __iter__(self):
        for sample in self.stream:
            if self.pruner.selection.weights[sample["id"]] > 0:
                yield {**sample, "index": sample["id"]}


def record_first(pruner, loader, samples_of):
    losses = random_losses(SIZE)
    for batch in loader:
        indices = samples_of(batch)
        pruner.record(losses[indices], indices)
    pruner.set_epoch(1)


def test_a_stale_copy_would_train_what_is_left_out():
    """Why the selection is in shared memory: a persistent worker's copy is that of the first epoch."""
    pruner, _, stream = make(warmup_epochs=1)
    naive = DataLoader(Naive(pruner, Shards()), BATCH, num_workers=1, persistent_workers=True)
    loader = DataLoader(stream, BATCH, num_workers=1, persistent_workers=True)
    record_first(pruner, naive, lambda batch: batch["index"])
    assert sum(len(batch["id"]) for batch in naive) == SIZE
    assert sum(len(batch["id"]) for batch in loader) == pruner.selection.num_selected < SIZE


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("num_epochs", [3, 2.4])
def test_a_resumed_epoch_gives_what_was_not_recorded(workers, num_epochs):
    def start():
        pruner, keep, stream = make(num_epochs=num_epochs, delta=1)
        return pruner, keep, DataLoader(stream, BATCH, num_workers=workers)

    def train(pruner, keep, loader):
        for epoch in pruner.epochs():
            for batch in loader:
                indices = keep.indices(batch[ENTRY])
                keep.update(random_losses(SIZE, epoch)[indices], batch[ENTRY])
                yield epoch, indices.tolist()

    def by_epoch(steps):
        samples = {}
        for epoch, indices in steps:
            samples.setdefault(epoch, []).extend(indices)
        return {epoch: sorted(trained) for epoch, trained in samples.items()}

    whole = start()
    steps, states = [], []
    for step in train(*whole):
        steps.append(step)
        states.append(whole[0].state_dict())
    for done in range(0, len(steps), 1 if workers == 0 else 6):
        run = start()
        run[0].load_state_dict(states[done])
        rest = list(train(*run))
        assert by_epoch(steps[: done + 1] + rest) == by_epoch(steps), done
        assert torch.equal(run[0].scores["last_loss"], whole[0].scores["last_loss"])
        assert run[0].report() == whole[0].report()
        assert run[0].progress == 1


def test_an_epoch_broken_off_is_taken_up_where_it_was_left():
    pruner, keep, stream = make()
    loader = DataLoader(stream, BATCH, num_workers=2, persistent_workers=True)
    pruner.set_epoch(0)
    seen = []
    for batch in islice(loader, 3):
        keep.update(torch.ones(BATCH), batch[ENTRY])
        seen += batch["id"].tolist()
    seen += chain(*train_epoch(keep, loader, torch.ones(SIZE)))
    assert sorted(seen) == list(range(SIZE))
    assert pruner.current.finished
    with pytest.raises(RuntimeError, match=r"epoch 0 is finished.*Begin the next one"):
        keep.update(torch.ones(BATCH), batch[ENTRY])


def test_an_epoch_cut_short_by_the_loop_just_ends():
    pruner, keep, stream = make(policy=RandomPruning(0.5), delta=1)
    for epoch in pruner.epochs():
        batch = next(iter(DataLoader(stream, BATCH)))
        keep.update(torch.ones(BATCH), batch[ENTRY])
        assert pruner.epoch == epoch
        assert not pruner.current.finished
    assert [counts.num_recorded for counts in pruner.history] == [BATCH] * (EPOCHS - 1)
    assert pruner.progress == 1
