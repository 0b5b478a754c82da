"""Losses with other indices than the loader's: told of at the first batch, refused after an epoch."""

import warnings

import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler

from helpers import UNMERGED, Numbers
from infobatch import DynamicPruner, InfoBatch, NoiseBudget
from infobatch.batch_indices import BatchIndices

SIZE, BATCH = 40, 4
POLICIES = [InfoBatch(), NoiseBudget()]
LOADERS = {
    "steps": ({"policy": InfoBatch()}, {"batch_size": BATCH}),
    "batches": ({}, {"batch_size": BATCH}),
    "workers": ({}, {"batch_size": BATCH, "num_workers": 1}),
    "sampler": ({}, {"batch_size": BATCH, "sampler": RandomSampler(range(SIZE))}),
    "batch_sampler": ({}, {"batch_sampler": BatchSampler(RandomSampler(range(SIZE)), BATCH, False)}),
}
FOREIGN = {
    "positions": lambda number, indices: torch.arange(len(indices)),
    "in turn": lambda number, indices: number * BATCH + torch.arange(len(indices)),
    "another order": lambda number, indices: SIZE - 1 - indices,
}


def made(pruner_options, loader_options):
    pruner = DynamicPruner(Numbers(SIZE), 3, seed=1, **pruner_options)
    return pruner, pruner.loader(**loader_options)


def update(pruner, indices):
    pruner.update(torch.rand(len(indices)), indices)


@pytest.mark.parametrize("loader", [LOADERS[name] for name in ("steps", "batches", "workers")])
@pytest.mark.parametrize("other", FOREIGN.values(), ids=FOREIGN)
def test_the_first_batch_tells(loader, other):
    torch.manual_seed(3)
    pruner, loader = made(*loader)
    number, (indices, _) = next(enumerate(loader))
    with pytest.warns(UserWarning, match=r"4 samples of the first batch .* its positions, the") as told:
        update(pruner, other(number, indices))
    assert [warning.filename for warning in told] == [__file__]


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_nothing_is_said_of_indices_as_they_come(loader):
    pruner, loader = made(*loader)
    next(iter(loader))  # a look at a batch
    for _ in pruner.epochs():
        for indices, _ in loader:
            update(pruner, indices)


@pytest.mark.parametrize("part", [slice(1), slice(3), slice(None, None, -1)])
def test_nothing_is_said_of_a_part_of_a_batch_or_of_several_or_of_a_later_one(part):
    pruner, loader = made(*LOADERS["batches"])
    (first, _), (second, _), *_ = loader
    update(pruner, first[part])
    pruner, loader = made(*LOADERS["batches"])
    (first, _), (second, _), *_ = loader
    update(pruner, torch.cat([torch.as_tensor(second), torch.as_tensor(first)]))
    pruner, loader = made(*LOADERS["batches"])
    _, _, (third, _), *_ = loader
    update(pruner, third[part])


def test_nothing_is_said_of_a_batch_that_was_dropped():
    pruner, loader = made(*LOADERS["batches"])
    for number, (indices, _) in enumerate(loader):
        if number == 0:
            pruner.record(torch.empty(0), BatchIndices.of([], dropped=indices))
        else:
            update(pruner, indices)
    assert pruner.current.finished


@pytest.mark.parametrize("rank", range(3))
def test_nothing_is_said_of_an_epoch_of_all_ranks_at_once(rank):
    pruner = DynamicPruner(Numbers(SIZE), 3, seed=1, rank=rank, num_replicas=3, layout=UNMERGED)
    for _ in pruner.loader(BATCH):
        pass
    update(pruner, torch.randperm(SIZE))


@pytest.mark.parametrize("policy", POLICIES, ids=["steps", "batches"])
def test_positions_within_a_batch_are_no_indices(policy):
    pruner, loader = made({"policy": policy}, {"batch_size": BATCH})
    epochs = pruner.epochs()
    next(epochs)
    with warnings.catch_warnings(action="ignore"):
        for indices, _ in loader:
            update(pruner, torch.arange(len(indices)))
    with pytest.raises(RuntimeError, match=r"epoch 0 .* 40 samples, .* but of 4 samples only: the ind"):
        next(epochs)


@pytest.mark.parametrize("times", [(2,) * 10, (1, 0) * 5, (1, 2, 0, 0, 2), (2, 2, 1)])
def test_batches_may_be_recorded_twice_or_not_at_all(times):
    pruner, loader = made({"policy": InfoBatch()}, {"batch_size": BATCH})
    for _ in pruner.epochs():
        for (indices, _), times_used in zip(loader, times, strict=False):
            for _ in range(times_used):
                update(pruner, indices)
    assert 0 < pruner.report().epochs[0].num_recorded <= SIZE
