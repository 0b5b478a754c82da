"""With shrink="batches" a pruned epoch has the steps of full data, each an estimate of the same mean."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import BatchSampler, SequentialSampler

from helpers import (
    UNMERGED,
    Numbers,
    made,
    new_pruner,
    random_losses,
    record_epoch,
    train_epoch,
)
from helpers.policies import POLICIES, UNBIASED
from helpers.sharded import Ranks
from infobatch import (
    DynamicPruner,
    InfoBatch,
    NoPruning,
    RandomPruning,
    Replicated,
    Sharded,
    ShrinkBatches,
    weighted_mean,
)
from infobatch.policies import BiasedPolicy, KeepProbabilities, PercentileTiers, Policy

SIZE = 203
SHRINKING = [name for name in POLICIES if name not in ("none", "whole-groups")]


def sizes_of(batches):
    return [len(batch) for batch in batches]


def refresh(pruner, losses):
    """Observe what is left out, for policies that go by the losses of all samples."""
    if pruner.policy.refreshes and len(pruner.left_out):
        left_out = losses[pruner.left_out]
        pruner.observe(left_out, pruner.left_out, **signals_of(pruner, left_out))


def signals_of(pruner, losses):
    return dict.fromkeys(pruner.signals, losses)


# -- Every epoch has its full number of steps ----------------------------------------------------------


@pytest.mark.parametrize("name", ["none", *SHRINKING])
@pytest.mark.parametrize("target", [None, 0.2])
def test_every_policy_has_the_steps_of_full_data(name, target):
    policy = made(POLICIES[name], SIZE, target)
    try:
        pruner = new_pruner(SIZE, 5, policy=policy, target=target, shrink="batches")
        loader = pruner.loader(16)
    except ValueError as error:
        if target is None:
            raise
        pytest.skip(str(error)[:80])
    losses, steps, kept = random_losses(SIZE), 0, 0
    for epoch in pruner.epochs():
        weights, sizes = [], []
        assert len(loader) == 13
        for indices, _ in loader:
            sizes.append(len(indices))
            weights += pruner.weights(indices).tolist()
            signals = signals_of(pruner, losses[indices])
            pruner.update(losses[indices], indices, **signals)
        refresh(pruner, losses)
        steps += len(sizes)
        kept += sum(sizes)
        assert len(sizes) == 13, epoch
        if sum(sizes) < SIZE:
            assert max(sizes) - min(sizes) <= 1
            assert min(sizes) >= 2
        # With strata it is exact.
        in_expectation = name in ("spaced", "proportional", "class-quotas")
        assert np.mean(weights) == pytest.approx(1, rel=0.3 if in_expectation else 1e-5)
    assert steps == pruner.full_steps == pruner.total_steps == 65
    assert pruner.mean_weight == 1
    assert pruner.progress == 1
    if target is not None and not isinstance(policy, NoPruning):
        assert kept == 5 * SIZE - round(target * 5 * SIZE)
    assert name == "none" or kept < 5 * SIZE or isinstance(policy, BiasedPolicy)


shrinks = st.builds(ShrinkBatches, st.integers(1, 6), st.integers(1, 6))


@settings(deadline=None, max_examples=150)
@given(
    size=st.integers(40, 400),
    batch_size=st.integers(13, 30),
    shrink=shrinks,
    ratio=st.floats(0.1, 0.999),
    num_replicas=st.integers(1, 3),
    drop_last=st.booleans(),
    num_epochs=st.floats(1.01, 3),
    seed=st.integers(0, 99),
)
def test_any_sizes_are_even_and_never_below_the_least(
    size, batch_size, shrink, ratio, num_replicas, drop_last, num_epochs, seed
):
    batch_size = min(batch_size, size // num_replicas)
    batch_size -= batch_size % shrink.multiple
    least = -(-shrink.least // shrink.multiple) * shrink.multiple
    if batch_size <= least:
        return
    per_rank = []
    for rank in range(num_replicas):
        pruner = DynamicPruner(
            Numbers(size),
            num_epochs,
            policy=RandomPruning(ratio),
            delta=1,
            warmup_epochs=0,
            shrink=shrink,
            seed=seed,
            rank=rank,
            num_replicas=num_replicas,
            layout=UNMERGED,
        )
        loader = pruner.loader(batch_size, drop_last=drop_last)
        trained, steps = [], 0
        for _ in pruner.epochs():
            batches = [indices.tolist() for indices, _ in loader]
            assert len(loader) == len(batches)
            real = [index for batch in batches for index in batch if index >= 0]
            assert len(set(real)) == len(real)
            sizes = sizes_of(batches)
            if pruner.selection.num_selected < size:
                assert max(sizes) - min(sizes) <= shrink.multiple
                assert max(sizes) <= batch_size
                assert min(sizes) >= least
                assert all(number % shrink.multiple == 0 for number in sizes)
            trained.append(batches)
            steps += len(batches)
            record_epoch(pruner, torch.ones(size))
            if pruner.current.finished is False:  # repeats of this rank, which come last
                for batch in batches:
                    pruner.record(torch.ones(len(batch)), np.array(batch))
        assert steps == pruner.full_steps == pruner.total_steps
        per_rank.append(trained)
    for epochs in zip(*per_rank, strict=True):
        assert len({tuple(sizes_of(batches)) for batches in epochs}) == 1
        real = [index for batches in epochs for batch in batches for index in batch if index >= 0]
        assert len(set(real)) == len(real)


@pytest.mark.parametrize("layout", [Replicated(), Sharded(4)], ids=repr)
@pytest.mark.parametrize(("ratio", "num_selected"), [(0.05, 100), (0.1, 100), (0.15, 85)])
def test_what_full_data_drops_is_not_left_out_as_well(layout, ratio, num_selected):
    policy = RandomPruning(ratio)
    pruner = DynamicPruner(Numbers(100), 3, policy=policy, shrink="batches", delta=1, layout=layout)
    loader = pruner.loader(30, drop_last=True)
    for epoch in pruner.epochs():
        train_epoch(pruner, loader, torch.ones(100))
        assert pruner.current.num_selected == (num_selected if epoch else 100)
        assert pruner.report().epochs[-1].num_recorded == min(pruner.current.num_selected, 90)


@pytest.mark.parametrize("drop_last", [False, True])
def test_full_epochs_are_bit_for_bit_those_of_fewer_steps_and_of_no_pruning(drop_last):
    losses, epochs = random_losses(50), []
    for options in (
        {"shrink": "batches"},
        {"shrink": "steps"},
        {"policy": NoPruning()},
        {"policy": NoPruning(), "shrink": "batches"},
    ):
        pruner = new_pruner(50, 4, warmup_epochs=2, **options)
        loader = pruner.loader(8, drop_last=drop_last)
        made_of = []
        for epoch in pruner.epochs():
            batches = list(loader)
            means = [pruner.update(losses[batch.long()], indices) for indices, batch in batches]
            if epoch in (0, 1, 3):
                made_of.append(
                    [[indices.tolist() for indices, _ in batches], torch.stack(means).tolist()]
                )
        epochs.append(made_of)
    assert all(made_of == epochs[0] for made_of in epochs[1:])


@pytest.mark.parametrize(
    "lengths", [{"num_epochs": 2.4}, {"max_steps": 31}, {"num_epochs": 0.9}], ids=str
)
@pytest.mark.parametrize("drop_last", [False, True])
def test_runs_of_any_length_have_their_steps(lengths, drop_last):
    pruner = DynamicPruner(
        Numbers(SIZE), **lengths, policy=RandomPruning(0.7), delta=1, warmup_epochs=0, shrink="batches"
    )
    loader = pruner.loader(16, drop_last=drop_last)
    steps = sum(len(train_epoch(pruner, loader, torch.ones(SIZE))) for _ in pruner.epochs())
    assert steps == pruner.full_steps == pruner.total_steps
    assert steps == lengths.get("max_steps", steps)
    assert pruner.progress == 1


# -- Each step is an estimate of the mean over all data ------------------------------------------------


def check_each_step(values, means):
    """``means``: of each seed, those of its steps."""
    means = np.array(means)
    for of_step in means.T:
        error = of_step.std(ddof=1) / np.sqrt(len(of_step))
        assert error > 0
        assert abs(of_step.mean() - float(values.mean())) <= 5 * error


@pytest.mark.parametrize("policy", [UNBIASED[name] for name in SHRINKING if name in UNBIASED])
@pytest.mark.parametrize("target", [None, 0.15])
def test_each_step_is_in_the_mean_the_mean_over_all_data(policy, target):
    losses, values, means = random_losses(SIZE), random_losses(SIZE, seed=1), []
    for seed in range(200):
        options = {"policy": made(policy, SIZE, target), "target": target, "seed": seed}
        pruner = new_pruner(SIZE, 4, shrink="batches", **options)
        loader = pruner.loader(32, drop_last=True)
        record_epoch_with_signals(pruner, losses)
        pruner.set_epoch(1)
        means.append([float(pruner.weigh(values[indices], indices)) for indices, _ in loader])
    check_each_step(values, means)


def record_epoch_with_signals(pruner, losses):
    for batch in pruner.current.resume_order.split(50):
        pruner.record(losses[batch], batch.numpy(), **signals_of(pruner, losses[batch]))


class ByLoss(Policy):
    """A policy of one's own, without strata."""

    def keep_probabilities(self, scores, request):
        losses = scores["last_loss"].double()
        return KeepProbabilities((losses / losses.nanmean()).nan_to_num(nan=1).clamp(0.1, 1))

    def check_target(self, num_pruned, num_samples):
        pass


@pytest.mark.parametrize("num_replicas", [1, 2])
@pytest.mark.parametrize("policy", [InfoBatch(0.8), ByLoss()], ids=["strata", "one by one"])
def test_each_step_of_all_ranks_together_too(policy, num_replicas):
    losses, values, means = random_losses(SIZE), random_losses(SIZE, seed=1), []
    for seed in range(200):
        of_ranks = []
        for rank in range(num_replicas):
            where = {"rank": rank, "num_replicas": num_replicas, "layout": UNMERGED}
            pruner = new_pruner(SIZE, 4, shrink="batches", policy=policy, seed=seed, **where)
            loader = pruner.loader(32 // num_replicas)
            pruner.record(losses, np.arange(SIZE))
            pruner.set_epoch(1)
            of_ranks.append(
                [float(pruner.weigh(values[batch.long()], indices)) for indices, batch in loader]
            )
        means.append(np.mean(of_ranks, axis=0))
    check_each_step(values, means)


# -- Several ranks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalizer", ["batch", "mean", "weights"])
@pytest.mark.parametrize(("size", "num_replicas", "batch_size"), [(57, 2, 8), (203, 3, 8), (41, 4, 4)])
def test_the_ranks_means_average_to_that_of_the_global_batch(size, num_replicas, batch_size, normalizer):
    losses, made_of = random_losses(size), []
    for rank in range(num_replicas):
        options = {"normalizer": normalizer, "policy": PercentileTiers(), "shrink": "batches"}
        where = {"rank": rank, "num_replicas": num_replicas, "layout": UNMERGED}
        pruner = new_pruner(size, **options, **where)
        loader = pruner.loader(batch_size)
        pruner.record(losses, np.arange(size))
        pruner.set_epoch(1)
        made_of.append((pruner, loader))
    weights = made_of[0][0].selection.weights
    relative = weights / (weights.sum() / (weights > 0).sum())
    for step in zip(*(list(loader) for _, loader in made_of), strict=True):
        means, real = [], []
        for (pruner, _), (indices, batch) in zip(made_of, step, strict=True):
            means.append(float(pruner.update(losses[batch.long()], indices)))
            real += [index for index in indices if index >= 0]
        over = "weights" if normalizer == "weights" else "batch"
        expected = float(weighted_mean(losses[real], relative[real], over))
        assert np.mean(means) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shrink", ["batches", ShrinkBatches(3, 3)], ids=str)
@pytest.mark.parametrize(("num_replicas", "size"), [(1, 600), (2, 601), (3, 607), (5, 613), (7, 607)])
def test_ranks_with_sharded_scores_keep_step(num_replicas, size, shrink):
    losses = random_losses(size)
    ranks = Ranks(num_replicas, size, 12 * num_replicas, shrink=shrink, policy=InfoBatch(0.8))
    num_full = len(ranks.loaders[0])  # more than an equal share has where ranks do not divide the shards
    assert num_full == -(-size // (12 * num_replicas)) or 12 % num_replicas
    ranks.score(losses)
    weights, trained = ranks.weights, []
    kept = weights[weights > 0]
    assert float(kept.mean()) == pytest.approx(1, rel=1e-5)
    steps = list(zip(*ranks.loaders, strict=True))
    assert len(steps) == num_full == len(ranks.loaders[0])
    spread = {len(indices) for step in steps for indices, _ in step}
    multiple = 1 if shrink == "batches" else 3
    if multiple == 1 or num_replicas in (1, 2, 3, 5):
        assert max(spread) - min(spread) <= multiple
    for step in steps:
        assert len({len(indices) for indices, _ in step}) == 1
        means, real = [], []
        for pruner, (indices, batch) in zip(ranks.pruners, step, strict=True):
            means.append(float(pruner.update(losses[batch.long()], indices)))
            real += [index for index in indices.tolist() if index >= 0]
        assert np.mean(means) == pytest.approx(float((losses[real] * weights[real]).mean()), rel=1e-5)
        trained += real
    assert sorted(trained) == np.flatnonzero(weights > 0).tolist()


@pytest.mark.parametrize(("before", "after"), [(2, 2), (3, 3), (2, 3), (3, 1)])
def test_sharded_scores_resumed_within_an_epoch(before, after):
    size, losses = 613, random_losses(613)
    options = {"size": size, "num_shards": 6, "shrink": "batches", "policy": InfoBatch(0.7)}

    def real(steps):
        return [(e, i) for e, made in steps for indices, _ in made for i in indices if i >= 0]

    whole = Ranks(before, batch_size=24 * before, **options).train(losses)
    num_steps = -(-size // (24 * before))
    assert len(whole) == 4 * num_steps
    for done in (1, num_steps, num_steps + 2, 3 * num_steps - 1):
        run = Ranks(before, batch_size=24 * before, **options)
        first = run.train(losses, done)
        resumed = Ranks(after, batch_size=24 * after, **options).load(run.states())
        epoch = resumed.pruners[0].epoch
        rest = resumed.train(losses)
        if before == after:
            assert first + rest == whole
        trained = real(first) + real(rest)
        assert len(set(trained)) == len(trained)
        assert [pair for pair in sorted(trained) if pair[0] <= epoch] == [
            pair for pair in sorted(real(whole)) if pair[0] <= epoch
        ]
        assert len(rest) >= (3 - epoch) * -(-size // (24 * after))


# -- Orders of the user's own --------------------------------------------------------------------------


class Backwards:
    """A sampler that may tell its length."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(np.roll(np.arange(SIZE), self.epoch)[::-1].tolist())


class BackwardsOf(Backwards):
    def __len__(self):
        return SIZE


@pytest.mark.parametrize("sampler", [Backwards, BackwardsOf])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_sampler_of_ones_own_keeps_its_order_and_its_steps(sampler, drop_last):
    pruner = new_pruner(SIZE, 5, policy=RandomPruning(0.6), shrink="batches")
    loader = pruner.loader(16, sampler=sampler(), drop_last=drop_last)
    num_batches = SIZE // 16 if drop_last else -(-SIZE // 16)
    steps = 0
    for epoch in pruner.epochs():
        batches = train_epoch(pruner, loader, torch.ones(SIZE))
        assert len(batches) == num_batches
        trained = np.concatenate(batches)
        order = np.roll(np.arange(SIZE), epoch)[::-1]
        if drop_last:
            order = order[: num_batches * 16]
        kept = pruner.selection.weights.numpy() > 0
        assert trained.tolist() == order[kept[order]].tolist()
        sizes = sizes_of(batches)
        if epoch in (1, 2, 3):
            assert max(sizes) - min(sizes) <= 3
        steps += len(batches)
    assert steps == pruner.full_steps == pruner.total_steps


def test_a_batch_sampler_of_ones_own_shrinks_in_proportion():
    def batches():
        return BatchSampler(SequentialSampler(range(SIZE)), 16, False)

    pruner = new_pruner(SIZE, 5, policy=RandomPruning(0.5), shrink="batches")
    loader = pruner.loader(batch_sampler=batches())
    for epoch in pruner.epochs():
        given_batches = train_epoch(pruner, loader, torch.ones(SIZE))
        assert len(given_batches) == 13
        if epoch in (1, 2, 3):
            assert set(sizes_of(given_batches)[:-1]) <= {7, 8, 9}
    own = new_pruner(SIZE, 5, policy=RandomPruning(0.5), shrink="batches")
    sampler = own.filter_batches(batches())
    for batch in sampler:
        own.record(torch.ones(len(batch)), batch)
    own.set_epoch(1)
    assert len(list(sampler)) == 13


def test_full_epochs_of_a_batch_sampler_are_those_of_fewer_steps():
    batches = [list(range(start, min(start + 6, SIZE))) for start in range(0, SIZE, 6)]
    given_batches = {}
    for shrink in ("steps", "batches", ShrinkBatches(3, 4)):
        pruner = new_pruner(SIZE, 3, shrink=shrink)
        loader = pruner.loader(batch_sampler=batches)
        given_batches[shrink] = [indices.tolist() for indices, _ in loader]
    assert all(each == batches for each in given_batches.values())


def test_buckets_keep_their_batches_apart():
    buckets = np.arange(SIZE) % 3
    batches = [
        part.tolist() for r in range(3) for part in np.array_split(np.flatnonzero(buckets == r), 4)
    ]
    pruner = new_pruner(SIZE, 5, policy=RandomPruning(0.5), shrink="batches")
    loader = pruner.loader(batch_sampler=batches, bucket=lambda index: index % 3)
    for _ in pruner.epochs():
        given_batches = train_epoch(pruner, loader, torch.ones(SIZE))
        assert len(given_batches) == 12
        for batch in given_batches:
            assert len(set(buckets[batch])) == 1
        assert sorted(np.concatenate(given_batches)) == pruner.selection.indices.tolist()


# -- Schedules -----------------------------------------------------------------------------------------


def test_a_plain_schedule_comes_to_its_end_and_progress_agrees():
    pruner = new_pruner(SIZE, 5, policy=RandomPruning(0.6), shrink="batches")
    loader = pruner.loader(16)

    def one_cycle():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
        schedule = OneCycleLR(optimizer, 0.3, total_steps=pruner.full_steps)
        optimizer.step()
        return schedule

    plain, driven = one_cycle(), one_cycle()
    by_progress = pruner.lr_scheduler(driven)
    rates, full = [], []
    for _ in pruner.epochs():
        for indices, _ in loader:
            pruner.update(torch.ones(len(indices)), indices)
            if len(rates) < pruner.full_steps - 1:
                plain.step()
            by_progress.step()
            rates.append(plain.get_last_lr()[0])
            full.append(by_progress.get_last_lr()[0])
    assert len(rates) == plain.total_steps == pruner.full_steps
    assert rates[-1] == plain.get_last_lr()[0] == pytest.approx(0.3 / 25 / 1e4)
    assert full[:-1] == rates[:-1]


# -- Policies that keep little ------------------------------------------------------------------------


class Few(BiasedPolicy):
    def keep_probabilities(self, scores, request):
        raise AssertionError

    def weights(self, scores, request):
        weights = torch.zeros(len(scores))
        weights[:25] = 1
        return weights

    def check_target(self, num_pruned, num_samples):
        pass


def test_a_biased_policy_that_keeps_too_few_is_told_of():
    message = r"keeps 25 samples in an epoch, and 26 are needed.*have it keep more.*shrink='steps'"
    pruner = new_pruner(SIZE, 5, policy=Few(), shrink="batches")
    with pytest.raises(ValueError, match=message):
        pruner.loader(16)
    pruner = new_pruner(SIZE, 5, policy=Few(), shrink=ShrinkBatches(least=1))
    loader = pruner.loader(16)
    record_epoch(pruner, torch.ones(SIZE))
    pruner.set_epoch(1)
    assert sizes_of(indices for indices, _ in loader) == [2] * 12 + [1]


def test_nothing_pruned_takes_any_batch_size():
    pruner = new_pruner(20, 5, shrink="batches", policy=NoPruning())
    assert len(list(pruner.loader(1))) == 20
