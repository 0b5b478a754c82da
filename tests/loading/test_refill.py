"""The user's batches made anew keep to their budget, and none is left with a single sample."""

import math

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler

from helpers import Numbers, new_pruner, random_losses, train_epoch
from infobatch import DynamicPruner, InfoBatch, Neyman, NoiseBudget, RandomPruning
from infobatch.loading.refill import Refill

LENGTHS = np.random.default_rng(3).integers(1, 17, 200)
BUDGET = 64


def under_budget():
    """Batches of samples in the order of their lengths, each as large as the budget lets it be."""
    batches = [[]]
    for index in np.argsort(LENGTHS).tolist():
        if LENGTHS[[*batches[-1], index]].sum() > BUDGET:
            batches.append([])
        batches[-1].append(index)
    return np.random.default_rng(1).permutation(np.array(batches, object)).tolist()


@pytest.mark.parametrize("cost", [LENGTHS, LENGTHS.tolist(), lambda index: LENGTHS[index]])
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_batches_keep_to_their_budget(shrink, cost):
    pruner = new_pruner(200, shrink=shrink)
    loader = pruner.loader(batch_sampler=under_budget(), max_cost=BUDGET, cost=cost)
    for epoch in pruner.epochs():
        seen = train_epoch(pruner, loader, random_losses(200, seed=epoch))
        assert max(LENGTHS[batch].sum() for batch in seen) <= BUDGET
        assert min(map(len, seen)) >= min(2, *map(len, under_budget()))
        assert sorted(np.concatenate(seen)) == pruner.selection.indices.tolist()
    assert pruner.report().saved > 0.05


@pytest.mark.parametrize("unit", [1, 7, 1000, 1e6])
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
def test_there_are_as_many_smaller_batches_in_any_unit_of_cost(unit, ratio):
    policy = RandomPruning(ratio)
    pruner = DynamicPruner(Numbers(200), 4, policy=policy, delta=1, shrink="batches")
    loader = pruner.loader(batch_sampler=under_budget(), max_cost=BUDGET / unit, cost=LENGTHS / unit)
    mine = under_budget()
    for _ in pruner.epochs():
        seen = train_epoch(pruner, loader, random_losses(200))
        assert len(seen) == len(mine)
        assert all(len(batch) >= min(2, len(whole)) for batch, whole in zip(seen, mine, strict=True))
        assert max(LENGTHS[batch].sum() for batch in seen) <= BUDGET
        assert sorted(np.concatenate(seen)) == pruner.selection.indices.tolist()


KINDS = np.arange(200) % 2  # samples of kind 0 are easy, and soon left out
BY_KIND = {"bucket": lambda index: KINDS[index]}
BY_COST = {"max_cost": 40, "cost": np.where(KINDS == 0, 1, 5)}


def of_kinds(sizes):
    """Batches of one kind each, of so many samples; the last of a kind may be short."""
    for kind, size in enumerate(sizes):
        samples = np.flatnonzero(kind == KINDS).tolist()
        yield from (samples[start : start + size] for start in range(0, len(samples), size))


def shares_of(pruner, loader):
    """What each sample of an epoch counts, on average over the draws: weight and batch size apart."""
    losses = torch.from_numpy(np.where(KINDS == 0, 0.05, 1)).float() * (1 + random_losses(200) / 10)
    shares = np.full(200, np.nan)
    for indices, _ in loader:
        batch = losses[indices].requires_grad_()
        pruner.update(batch, indices).backward()
        shares[indices] = batch.grad / pruner.selection.weights[indices]
    return shares


@pytest.mark.parametrize("policy", [NoiseBudget(1.5), InfoBatch(0.7), Neyman()])
@pytest.mark.parametrize("shrink", ["steps", "batches"])
@pytest.mark.parametrize(
    ("sizes", "options"),
    [((16, 16), BY_KIND), ((40, 8), BY_COST), ((40, 8), {**BY_KIND, **BY_COST})],
    ids=["bucket", "cost", "both"],
)
def test_samples_count_as_in_the_users_batches(sizes, options, shrink, policy):
    if isinstance(policy, NoiseBudget) and shrink == "steps":
        pytest.skip("a budget keeps the steps")
    pruner = DynamicPruner(Numbers(200), 4, policy=policy, shrink=shrink, delta=1)
    loader = pruner.loader(batch_sampler=[*of_kinds(sizes)], **options)
    (_, full), *pruned = ((epoch, shares_of(pruner, loader)) for epoch in pruner.epochs())
    means = [full[kind == KINDS].mean() for kind in (0, 1)]
    left_out = 0
    for _, shares in pruned:
        trained = ~np.isnan(shares)
        left_out += np.count_nonzero(~trained & (KINDS == 0))
        if "cost" in options:
            assert shares[trained] == pytest.approx(full[trained], rel=1e-5)
        else:
            for kind, mean in enumerate(means):
                assert shares[trained & (kind == KINDS)].mean() == pytest.approx(mean, rel=1e-5)
    assert left_out > 50


COSTS_HELD = {
    "array": lambda costs: costs,
    "tensor": torch.from_numpy,
    "bfloat16": lambda costs: torch.from_numpy(costs).round().bfloat16(),
    "function": lambda costs: lambda index: torch.tensor(costs[index]),
}


@pytest.mark.parametrize("held", COSTS_HELD)
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_a_budget_is_kept_as_the_user_rounds_it(shrink, held):
    seconds = (np.random.default_rng(0).integers(1, 30, 1000) / 10).astype(np.float32)
    if held == "bfloat16":
        seconds = seconds.round()
    batches = [[]]
    for index in range(1000):
        if np.float32(seconds[[*batches[-1], index]].sum()) > 10:
            batches.append([])
        batches[-1].append(index)
    pruner = new_pruner(1000, shrink=shrink)
    loader = pruner.loader(batch_sampler=batches, max_cost=10.0, cost=COSTS_HELD[held](seconds))
    for epoch in pruner.epochs():
        seen = train_epoch(pruner, loader, random_losses(1000, seed=epoch))
        assert max(seconds[batch].sum(dtype=np.float64) for batch in seen) <= 10 * (1 + 1e-6)


def test_batches_of_varying_size_without_a_budget_are_told_of_once():
    pruner = new_pruner(200)
    loader = pruner.loader(batch_sampler=under_budget())
    with pytest.warns(UserWarning, match="batches of list vary in size.*give max_cost= and"):
        train_epoch(pruner, loader, random_losses(200))
    pruner.set_epoch(1)
    train_epoch(pruner, loader, random_losses(200))
    silent = new_pruner(200)
    next(iter(silent.loader(batch_sampler=under_budget(), max_cost=math.inf)))


def test_a_budget_that_the_users_batches_exceed_is_refused():
    loader = new_pruner(200).loader(batch_sampler=under_budget(), max_cost=20, cost=LENGTHS)
    with pytest.raises(ValueError, match=r"batch of \d+ samples of list costs \d+, and max_cost is 20;"):
        list(loader)
    loader = new_pruner(2).loader(batch_sampler=[[0, 1]], max_cost=10.0, cost=[5.0, 5.0001])
    with pytest.raises(ValueError, match=r"costs 10\.0001, and max_cost is 10;"):
        list(loader)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sampler": [[1]], "max_cost": 9}, "max_cost is 9 and cost is missing; give both"),
        ({"batch_sampler": [[1]], "cost": LENGTHS}, "max_cost is None and cost is given"),
        ({"batch_sampler": [[1]], "max_cost": 0, "cost": LENGTHS}, "max_cost is 0; it must be above 0"),
        ({"bucket": lambda index: 0}, r"there is none; give batch_sampler="),
    ],
)
def test_options_that_say_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        new_pruner(200).loader(8, **options)


@pytest.mark.parametrize("size", [3, 8])
@pytest.mark.parametrize("in_batches", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_no_batch_of_a_single_sample_where_full_data_has_none(size, in_batches, seed):
    pruner = DynamicPruner(
        Numbers(96 + seed - seed % size), 4, policy=RandomPruning(0.3), delta=1, seed=seed
    )
    mine = RandomSampler(pruner.dataset)
    batches = BatchSampler(mine, size, drop_last=False)
    options = {"batch_sampler": batches} if in_batches else {"sampler": mine, "batch_size": size}
    if pruner.num_samples % size == 1:
        return
    loader = pruner.loader(**options)
    for _ in pruner.epochs():
        seen = train_epoch(pruner, loader, random_losses(pruner.num_samples))
        assert 2 <= min(map(len, seen)) <= max(map(len, seen)) <= size
        assert sorted(np.concatenate(seen)) == pruner.selection.indices.tolist()


def test_a_sample_that_waited_does_not_bring_a_batch_over_the_budget():
    costs = [3, 8, 3, 5, 1, 1, 1]
    batches = Refill(None, 10, costs).pooled(
        [[0, 4, 5], [1, 6], [2, 3, 4]], np.array([1, 1, 1, 1, 0, 0, 0], bool)
    )
    assert all(sum(costs[index] for index in batch) <= 10 for batch in list(batches))
