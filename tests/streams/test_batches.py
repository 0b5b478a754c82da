"""Batches of a stream that shrink: as many as on full data, whoever cuts them."""

from itertools import chain, islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, default_collate

from helpers import random_losses
from helpers.streams import BATCH, EPOCHS, SIZE, Endless, Shards, make, train_epoch
from infobatch import DynamicPruner, InfoBatch, RandomPruning, ShrinkBatches
from infobatch.layouts.shuffled_epoch import epoch_order
from infobatch.streams import StreamFilter
from infobatch.streams.batches import BatchSize, in_batches
from infobatch.streams.filter import ENTRY

SHRINKING = {"policy": InfoBatch(0.8), "delta": 1, "shrink": "batches"}


def loader_of(stream, workers=0, **options):
    options = {"num_workers": workers, "persistent_workers": workers > 0, **options}
    return DataLoader(stream.batched(), batch_size=None, collate_fn=default_collate, **options)


def sizes(batches):
    return [len(batch) for batch in batches]


# -- The cut -------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    number=st.integers(0, 200),
    mean=st.floats(1, 20),
    multiple=st.integers(1, 4),
    least=st.integers(1, 4),
)
def test_a_pass_is_cut_evenly(number, mean, multiple, least):
    size = BatchSize(mean, multiple, least)
    batches = list(in_batches(((0, i) for i in range(number)), lambda epoch: size))
    assert list(chain.from_iterable(batches)) == list(range(number))
    whole = sizes(batches)[:-1]
    if mean >= max(multiple, least + multiple):
        assert all(count % multiple == 0 for count in whole)
        assert not whole or max(whole) - min(whole) <= multiple
        assert not number or min(sizes(batches)) >= min(number, least)
        assert abs(len(batches) - number / mean) <= 1 + multiple / mean


def test_the_size_changes_with_the_epoch():
    asked = []

    def size_of(epoch):
        asked.append(epoch)
        return BatchSize([4, 2.5, 3][epoch])

    samples = [(0, i) for i in range(10)] + [(1, i) for i in range(9)] + [(2, i) for i in range(4)]
    batches = list(in_batches(samples, size_of))
    assert asked == [0, 1, 2]
    assert batches == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 0],  # within it another epoch begins, whose first batch ends at 3
        [1, 2],
        [3, 4, 5],
        [6, 7],
        [8, 0, 1],
        [2, 3],
    ]


def test_a_last_batch_below_the_least_joins_the_one_before():
    samples = [(0, i) for i in range(10)]
    assert sizes(in_batches(samples, lambda epoch: BatchSize(3, least=2))) == [3, 3, 4]
    assert sizes(in_batches(samples, lambda epoch: BatchSize(3, least=1))) == [3, 3, 3, 1]
    assert sizes(in_batches(samples[:1], lambda epoch: BatchSize(3, least=2))) == [1]
    assert sizes(in_batches([], lambda epoch: BatchSize(3))) == []


# -- Epochs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("num_epochs", [EPOCHS, 3.4])
def test_each_epoch_has_about_the_batches_of_full_data(workers, num_epochs):
    pruner, keep, stream = make(**{**SHRINKING, "num_epochs": num_epochs})
    decoded = loader_of(stream.map(lambda sample: {**sample, "image": sample["id"] * 2}), workers)
    losses, num_full = random_losses(SIZE), -(-SIZE // BATCH)
    for epoch in pruner.epochs():
        batches, weights = [], []
        for batch in decoded:
            assert torch.equal(batch["image"], 2 * batch["id"])
            indices = keep.indices(batch[ENTRY])
            weights += keep.weights(batch[ENTRY]).tolist()
            mine = losses[indices]
            expected = (mine * keep.weights(batch[ENTRY])).mean()
            torch.testing.assert_close(keep.update(mine, batch[ENTRY]), expected)
            batches.append(indices.tolist())
        wanted = epoch_order(pruner.seed, epoch, pruner.selection).tolist()
        share = pruner.plan.schedule.share(epoch)
        assert sorted(chain(*batches)) == sorted(wanted[: round(share * len(wanted))])
        num_batches = pruner.plan.num_batches(epoch)
        assert len(batches) == num_batches if workers == 0 else abs(len(batches) - num_batches) <= 1
        assert pruner.current.finished
        if epoch == 0:
            assert num_batches == num_full
            assert workers or sizes(batches) == [8] * 7 + [4]
        elif workers == 0:
            assert max(sizes(batches)) - min(sizes(batches)) <= 1
            assert max(sizes(batches)) < BATCH
        assert np.mean(weights) == pytest.approx(1, rel=1e-5) or share < 1
    assert pruner.progress == 1
    assert pruner.report().saved > 0.1
    assert pruner.total_steps == pruner.full_steps


def test_multiples_and_the_least():
    pruner, keep, stream = make(
        policy=RandomPruning(0.6), delta=1, warmup_epochs=0, shrink=ShrinkBatches(2, 2)
    )
    for batch in loader_of(stream):
        assert len(batch["id"]) % 2 == 0
        keep.update(torch.ones(len(batch["id"])), batch[ENTRY])
    assert pruner.current.finished


def test_without_shrinking_they_are_the_loaders_batches():
    seen = []
    for batched in (False, True):
        pruner, keep, stream = make(policy=RandomPruning(0.5), delta=1)
        loader = loader_of(stream) if batched else DataLoader(stream, BATCH)
        seen.append([train_epoch(keep, loader, torch.ones(SIZE)) for _ in pruner.epochs()])
    assert seen[0] == seen[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_of_single_samples_is_refused(workers):
    _, _, stream = make(**SHRINKING)
    message = (
        r"shrinks batches, and a loader makes .* as large as on full data.*batched\(\), batch_size=None"
    )
    with pytest.raises(RuntimeError, match=message):
        next(iter(DataLoader(stream, BATCH, num_workers=workers)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_gives_what_was_not_recorded(workers):
    def start():
        pruner, keep, stream = make(**SHRINKING)
        return pruner, keep, loader_of(stream, workers)

    def train(pruner, keep, loader):
        for epoch in pruner.epochs():
            for batch in loader:
                indices = keep.indices(batch[ENTRY])
                keep.update(random_losses(SIZE, epoch)[indices], batch[ENTRY])
                yield epoch, indices.tolist()

    def by_epoch(steps):
        return [sorted(chain(*(batch for e, batch in steps if e == epoch))) for epoch in range(EPOCHS)]

    whole = start()
    steps, states = [], []
    for step in train(*whole):
        steps.append(step)
        states.append(whole[0].state_dict())
    for done in range(1, len(steps), 3 if workers == 0 else 11):
        run = start()
        run[0].load_state_dict(states[done])
        rest = list(train(*run))
        assert by_epoch(steps[: done + 1] + rest) == by_epoch(steps), done
        assert abs(len(rest) - len(steps[done + 1 :])) <= 1 + workers
        assert max(sizes(batch for epoch, batch in rest if epoch), default=0) < BATCH
        assert run[0].progress == 1


def test_samples_of_the_epoch_before_keep_their_weight():
    policy = InfoBatch(0.7)
    pruner, keep, _ = make(policy=policy, delta=1, shrink="batches")
    batches = iter(loader_of(keep(Endless())))
    held, losses, relative, num_late = [next(batches)], random_losses(SIZE), [], 0
    for epoch in pruner.epochs():
        weights = pruner.selection.weights
        relative.append(weights * (weights > 0).sum() / weights.sum())
        for _ in range(-(-SIZE // BATCH)):
            held.append(next(batches))
            tickets = held.pop(0)[ENTRY]
            indices, epochs = keep.indices(tickets), (tickets // SIZE - 1).tolist()
            expected = torch.stack([relative[e][i] for e, i in zip(epochs, indices, strict=True)])
            torch.testing.assert_close(keep.weights(tickets), expected)
            loss = keep.update(losses[indices], tickets)
            torch.testing.assert_close(loss, (losses[indices] * expected).mean())
            num_late += sum(e < epoch for e in epochs)
    assert num_late > 0
    assert len(list(islice(batches, 2))) == 2


def test_the_expected_step_is_the_mean_over_all_data():
    values, means = random_losses(SIZE, 1), []
    for seed in range(300):
        pruner, keep, stream = make(**{**SHRINKING, "num_epochs": 2, "seed": seed})
        train_epoch(keep, loader_of(stream), random_losses(SIZE))
        pruner.set_epoch(1)
        parts = [batch[ENTRY] for batch in loader_of(stream)]
        means.append(
            np.average(
                [float((keep.weights(part) * values[keep.indices(part)]).mean()) for part in parts],
                weights=[len(part) for part in parts],
            )
        )
    error = np.std(means) / len(means) ** 0.5
    assert error > 0
    assert abs(np.mean(means) - float(values.mean())) < 5 * error


def test_a_share_of_ones_own_length():
    pruner = DynamicPruner(range(SIZE), 3, policy=RandomPruning(0.5), delta=1, shrink="batches")
    keep = StreamFilter(pruner, "id", BATCH, length=30)
    assert pruner.full_steps == 3 * 4
    loader = loader_of(keep(Shards(range(30))))
    for _ in pruner.epochs():
        assert abs(len(train_epoch(keep, loader, torch.ones(SIZE))) - 4) <= 1
