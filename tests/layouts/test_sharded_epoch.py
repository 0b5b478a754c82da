"""An epoch of sharded scores: its order, its shares, and how it goes on."""

import numpy as np
import pytest
import torch

from helpers import random_losses
from helpers.sharded import Ranks, every_policy
from infobatch import InfoBatch, RandomPruning


@every_policy
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(
    ("size", "num_replicas"), [(600, 1), (601, 2), (607, 3), (600, 4), (610, 6), (613, 5), (699, 7)]
)
def test_the_union_of_the_ranks_is_the_selection(options, drop_last, size, num_replicas):
    losses = random_losses(size)
    batch_size = 4 * num_replicas
    ranks = Ranks(num_replicas, size, batch_size, drop_last=drop_last, **options).score(losses)
    weights, batches, seen = ranks.weights, [], []
    for pruner, loader in zip(ranks.pruners, ranks.loaders, strict=True):
        own = [indices for indices, _ in loader]
        assert len(own) == len(loader)
        batches.append([len(indices) for indices in own])
        seen += np.concatenate(own).tolist()
        repeats = [int(indices[0]) for indices in own if indices[0] < 0]
        assert (pruner.weights(repeats) == 0).all()
    assert all(sizes == batches[0] for sizes in batches), "batch counts and sizes are equal"
    real = sorted(index for index in seen if index >= 0)
    pruned = int(weights.count_nonzero()) < size
    if pruned or not drop_last:
        assert real == weights.nonzero().flatten().tolist()
    assert len(set(real)) == len(real)
    if 12 % num_replicas == 0:
        more = num_replicas if batches[0][-1] == 2 else 0  # a batch of one that was filled up
        assert len(seen) - len(real) < (1 if drop_last else num_replicas + more)
    else:  # some ranks have a shard more
        assert len(seen) - len(real) <= (num_replicas - 1) * (-(-size // 12) + 4)


@pytest.mark.parametrize("num_replicas", [1, 2, 3])
def test_no_last_batch_is_a_single_sample_where_full_data_has_none(num_replicas):
    for seed in range(12):
        size = 600 + 4 * seed
        ranks = Ranks(
            num_replicas, size, 4 * num_replicas, shrink="steps", policy=InfoBatch(), seed=seed
        )
        full = [[len(indices) for indices, _ in loader] for loader in ranks.loaders]
        ranks.score(random_losses(size, seed=seed))
        pruned = [[len(indices) for indices, _ in loader] for loader in ranks.loaders]
        assert min(map(min, pruned)) > 1 or min(map(min, full)) == 1
        assert all(sizes == pruned[0] for sizes in pruned)
        assert sum(pruned[0]) < sum(full[0])


@pytest.mark.parametrize(
    ("num_replicas", "size", "num_shards", "batch_size"),
    [(3, 240, 4, 24), (7, 1200, 60, 56), (2, 240, 4, 16)],
)
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_that_shrink_are_as_many_as_the_longest_share_has(
    num_replicas, size, num_shards, batch_size, drop_last
):
    options = {"policy": RandomPruning(0.1), "shrink": "batches", "drop_last": drop_last}
    ranks = Ranks(num_replicas, size, batch_size, num_shards, **options)
    full = [len(indices) for indices, _ in ranks.loaders[0]]
    ranks.score(random_losses(size))
    pruned = [[len(indices) for indices, _ in loader] for loader in ranks.loaders]
    assert all(sizes == pruned[0] for sizes in pruned)
    assert len(pruned[0]) == len(full)
    assert max(pruned[0]) <= max(full)


def test_an_epoch_has_an_order_of_its_own():
    ranks = Ranks(2, 6000, num_shards=60)
    orders = []
    for _ in range(2):
        orders.append(np.concatenate([indices for indices, _ in ranks.loaders[0]]))
        ranks.score(random_losses(6000))
    ranks_of = [np.argsort(order) / len(order) for order in orders if len(order) == 3000]
    assert len(ranks_of) >= 1
    places = np.empty(6000)
    places[orders[0]] = np.arange(len(orders[0]))
    assert abs(np.corrcoef(orders[0], np.arange(len(orders[0])))[0, 1]) < 0.1
    steps = np.abs(np.diff(orders[0] % 60))
    assert steps.mean() > 10, "neighbours are of any shards"


@every_policy
@pytest.mark.parametrize("num_replicas", [1, 2, 3, 5])
def test_a_run(options, num_replicas):
    losses = random_losses(123)
    ranks = Ranks(num_replicas, 123, 6 * num_replicas, 6, **options)
    visits = np.zeros(123, int)
    last_progress = 0
    for _, made in ranks.train(losses):
        assert len({progress for _, progress in made}) == 1, "ranks agree about progress"
        assert made[0][1] >= last_progress
        last_progress = made[0][1]
        real = [index for indices, _ in made for index in indices if index >= 0]
        np.add.at(visits, real, 1)
    assert last_progress == 1
    reports = ranks.each(lambda pruner: str(pruner.report()))
    assert set(reports) == {reports[0]}
    assert f"{visits.sum()} of 492 samples trained" in reports[0]
    table = np.zeros(123, int)
    for pruner in ranks.pruners:
        shards = pruner._store.shards
        for column, part in enumerate(shards.parts()):
            table[shards.indices(column)] = pruner.scores["visits"][part]
    assert table.tolist() == visits.tolist()


@every_policy
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 2), (2, 3), (3, 1), (4, 6), (5, 3)])
def test_a_run_goes_on_with_another_number_of_ranks(options, drop_last, before, after):
    losses = random_losses(303)
    size = {"size": 303, "drop_last": drop_last, "num_epochs": 3}
    run = Ranks(before, batch_size=12 * before, **size, **options)
    whole = Ranks(before, batch_size=12 * before, **size, **options).train(losses)
    for stop in [3, len(whole) // 2, len(whole) - 1]:
        run = Ranks(before, batch_size=12 * before, **size, **options)
        steps = run.train(losses, stop)
        assert steps == whole[:stop]
        states = run.states()
        resumed = Ranks(after, batch_size=12 * after, **size, **options)
        resumed.load(iter(states) if after == 1 else states)
        epoch = resumed.pruners[0].epoch
        assert resumed.pruners[0].progress == pytest.approx(steps[-1][1][0][1])
        assert torch.equal(resumed.weights, run.weights)
        rest = resumed.train(losses)
        if before == after:
            assert steps + rest == whole
        done = [(e, made) for e, made in steps + rest if e == epoch]
        real = [s for _, made in done for indices, _ in made for s in indices if s >= 0]
        assert len(set(real)) == len(real), "trained twice"
        if not drop_last or int(run.weights.count_nonzero()) < 303:
            assert sorted(real) == run.weights.nonzero().flatten().tolist()
        progress = [made[0][1] for _, made in rest]
        assert progress == sorted(progress)
        assert progress[-1] == 1


@pytest.mark.parametrize("stop", [3, 12])
def test_one_ranks_state_is_enough_for_it(stop):
    losses = random_losses(303)
    run = Ranks(3, 303)
    before = run.train(losses, stop)
    states = run.states()
    resumed = Ranks(3, 303)
    resumed.each(lambda pruner, state: pruner.load_state_dict(state), states)
    assert before + resumed.train(losses) == Ranks(3, 303).train(losses)


def test_ranks_that_have_repeats_alone_left_go_on():
    losses, runs = random_losses(303), []
    for stop in (None, 30):  # of 8 ranks on 12 shards four have trained their own by then
        run = Ranks(8, 303, num_epochs=2)
        steps = run.train(losses, stop)
        if stop:
            states, run = run.states(), Ranks(8, 303, num_epochs=2)
            run.each(lambda pruner, state: pruner.load_state_dict(state), states)
            steps += run.train(losses)
        runs.append([[max(indices[0], -1) for indices, _ in made] for _, made in steps])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("sample", [2, 14, 29])
def test_a_sample_of_another_rank_is_told_of_whatever_its_shard(sample):
    """Of 15 shards rank 0 has one more."""
    pruner = Ranks(2, 30, 3, 15).pruners[1]
    with pytest.raises(ValueError, match=rf"sample {sample} belongs to rank 0, this is rank 1"):
        pruner.weights([sample])


def test_one_rank_too_fills_up_with_repeats():
    losses, options = random_losses(101), {"num_shards": 7, "drop_last": True, "num_epochs": 2}
    run = Ranks(3, 101, 3, **options)
    run.train(losses, 20)
    states = run.states()
    resumed = Ranks(1, 101, 4, **options)
    resumed.load(states)
    steps = resumed.train(losses)
    assert steps[9][1][0][0][-1] < 0, "39 of 99 samples are left"
    assert steps[-1][1][0][1] == 1
    (pruner,) = resumed.pruners
    held, trained = pruner._store.shards.held, pruner.scores["visits"].numpy() > 0
    expected = losses[held] / 2
    first = pruner.scores["visits"].numpy() == 1  # of two epochs
    expected[first & ~pruner.current.recorded] *= 2
    assert pruner.scores["visits"].max() == 2
    assert torch.equal(pruner.scores["last_loss"][trained], expected[trained])


def test_an_epoch_of_which_nothing_was_recorded_is_refused_by_all():
    ranks = Ranks(2)
    with pytest.raises(RuntimeError, match="ends without a single recorded loss"):
        ranks.each(lambda pruner: pruner.set_epoch(pruner.epoch + 1))
