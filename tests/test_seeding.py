"""The seed decides every draw, and global random states are left alone."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from helpers import Seeds, new_pruner, random_losses, record_epoch, train_epoch
from infobatch import DynamicPruner
from infobatch.policies import KeepProbabilities
from infobatch.seeding import Stream, epoch_generator
from infobatch.selection import draw


def test_the_seed_decides_order_and_selection():
    def orders(seed):
        pruner = new_pruner(seed=seed)
        record_epoch(pruner, random_losses(60))
        first = pruner.current.order
        pruner.set_epoch(1)
        return first.tolist(), pruner.selection.indices.tolist()

    assert orders(1) == orders(1)
    assert orders(1)[0] != orders(2)[0]
    assert orders(1)[1] != orders(2)[1]


@pytest.mark.parametrize("loader_class", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_global_random_states_are_left_alone(num_workers, loader_class):
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    pruner = new_pruner()
    loader = pruner.loader(8, num_workers=num_workers, loader_class=loader_class)
    for _ in pruner.epochs():
        train_epoch(pruner, loader, random_losses(60))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_looking_leaves_the_seeds_of_the_workers_as_they_were():
    def seeds(look):
        pruner = DynamicPruner(Seeds(8), 2, seed=3)
        loader = pruner.loader(4, num_workers=1)
        if look:
            next(iter(loader))
        return [batch.tolist() for _, batch in loader]

    assert seeds(look=True) == seeds(look=False)


def test_the_workers_of_ranks_have_seeds_of_their_own():
    seeds = []
    for options in ({}, *({"rank": rank, "num_replicas": 3} for rank in range(3))):
        loader = DynamicPruner(Seeds(12), 2, **options).loader(4, num_workers=1)
        ((_, batch), *_) = loader
        seeds.append(int(batch[0]))
    single, first, *others = seeds
    assert single == first
    assert len({first, *others}) == 3


def test_the_draws_of_successive_epochs_are_independent():
    keep = KeepProbabilities(torch.tensor([0.5], dtype=torch.float64), torch.zeros(8, dtype=torch.uint8))
    both, num_seeds = torch.zeros(8), 3000
    for seed in range(num_seeds):
        one, next_one = (draw(keep, epoch_generator(seed, e, Stream.DRAW)).weights > 0 for e in (1, 2))
        both += one & next_one
    assert ((both / num_seeds - 0.25).abs() <= 5 * (0.25 * 0.75 / num_seeds) ** 0.5).all()
