"""A run saved after the loop has left an epoch early goes on with the next."""

from itertools import islice

import pytest
import torch
from torch.utils.data import BatchSampler
from torchdata.stateful_dataloader import StatefulDataLoader

from helpers import Numbers, random_losses
from infobatch import DynamicPruner, Sharded

SIZE, EPOCHS, BATCH, STEPS = 90, 3, 6, 4


def own_order(pruner):
    return pruner.loader(BATCH)


def own_skipping(pruner):
    return pruner.loader(BATCH, loader_class=StatefulDataLoader)


def of_sampler(pruner):
    return pruner.loader(BATCH, sampler=range(SIZE))


def of_batch_sampler(pruner):
    return pruner.loader(batch_sampler=BatchSampler(range(SIZE), BATCH, False))


WAYS = {
    "steps": (own_order, {"shrink": "steps"}),
    "batches": (own_order, {"shrink": "batches"}),
    "skips by itself": (own_skipping, {}),
    "sharded": (own_order, {"layout": Sharded(num_shards=4)}),
    "a user's sampler": (of_sampler, {"shrink": "steps"}),
    "a user's batch sampler": (of_batch_sampler, {}),
}


class Run:
    def __init__(self, way):
        make_loader, options = WAYS[way]
        self.pruner = DynamicPruner(Numbers(SIZE), EPOCHS, target=0.3, **options)
        self.loader = make_loader(self.pruner)
        self.losses = random_losses(SIZE)
        self.trained = []

    def train(self, until=None):
        """Some steps of each epoch; the states after the loop has left it, until the run is stopped."""
        for epoch in self.pruner.epochs():
            for indices, _ in islice(self.loader, STEPS):
                self.pruner.update(self.losses[indices], indices)
                self.trained.append((epoch, indices.tolist()))
            self.pruner.end_epoch()
            if epoch == until:
                return self.pruner.state_dict(), self.state_of_loader()
        return None

    def state_of_loader(self):
        return self.loader.state_dict() if isinstance(self.loader, StatefulDataLoader) else None

    def load(self, states):
        self.pruner.load_state_dict(states[0])
        if states[1] is not None:
            self.loader.load_state_dict(states[1])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_an_epoch_that_was_ended_is_over_when_resumed(way, epoch):
    whole, first, resumed = Run(way), Run(way), Run(way)
    whole.train()
    states = first.train(until=epoch)
    resumed.load(states)
    assert resumed.pruner.current.finished
    resumed.train()
    assert [*first.trained, *resumed.trained] == whole.trained
    assert resumed.pruner.history == whole.pruner.history
    for column in ("last_loss", "visits"):
        expected = whole.pruner.scores[column]
        torch.testing.assert_close(resumed.pruner.scores[column], expected, equal_nan=True)


def test_one_that_was_not_ended_is_gone_on_with():
    first, resumed = Run("steps"), Run("steps")
    next(first.pruner.epochs())
    for indices, _ in islice(first.loader, STEPS):
        first.pruner.update(first.losses[indices], indices)
    resumed.pruner.load_state_dict(first.pruner.state_dict())
    assert next(resumed.pruner.epochs()) == 0
    assert sum(len(indices) for indices, _ in resumed.loader) == SIZE - STEPS * BATCH


def test_nothing_more_of_it_is_given():
    run = Run("steps")
    run.train(until=0)
    with pytest.raises(RuntimeError, match="24 of its 90 samples have been recorded, and it was ended"):
        iter(run.loader).__next__()


def test_an_epoch_of_which_nothing_was_recorded_is_not_ended():
    run = Run("steps")
    with pytest.raises(RuntimeError, match="epoch 0 ends without a single recorded loss"):
        run.pruner.end_epoch()
    assert not run.pruner.current.finished


def test_a_damaged_mark_of_the_end_is_told():
    run = Run("steps")
    state, _ = run.train(until=0)
    with pytest.raises(ValueError, match="'over' in the checkpoint is a int, where bool is expected"):
        Run("steps").pruner.load_state_dict({**state, "over": 1})
