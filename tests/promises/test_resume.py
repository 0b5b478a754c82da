"""A checkpoint at any step boundary goes on bit for bit."""

import io
from itertools import islice

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from helpers import by_the_paper
from infobatch import DynamicPruner, InfoBatch, RandomPruning, Sharded, ShrinkBatches, Spaced
from infobatch.policies import PercentileTiers

SIZE, EPOCHS, BATCH = 52, 5, 8


class Run:
    """A small training with everything that a checkpoint has to hold."""

    def __init__(self, options, loader_options):
        options = {"num_epochs": EPOCHS, **by_the_paper(options)}
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(SIZE, 6, generator=generator)
        targets = (inputs[:, 0] > 0).float() * torch.rand(SIZE, generator=generator)
        self.pruner = DynamicPruner(TensorDataset(inputs, targets), seed=7, **options)
        sizes = {} if "batch_sampler" in loader_options else {"batch_size": BATCH}
        self.loader = self.pruner.loader(**sizes, **loader_options)
        self.model = torch.nn.Linear(6, 1)
        with torch.no_grad():
            self.model.weight.fill_(0.1)
            self.model.bias.zero_()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9)
        scheduler = OneCycleLR(self.optimizer, 0.3, total_steps=self.pruner.full_steps)
        self.scheduler = self.pruner.lr_scheduler(scheduler)
        self.parts = [self.model, self.optimizer, self.scheduler, self.pruner]
        if hasattr(self.loader, "load_state_dict"):
            self.parts.append(self.loader)

    def train(self):
        """Give a record of every step, at its boundary."""
        for epoch in self.pruner.epochs():
            for indices, (x, y) in self.loader:
                losses = (self.model(x).squeeze(1) - y) ** 2
                self.pruner.update(losses, indices).backward()
                rate = self.scheduler.get_last_lr()[0]
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
                weights = self.pruner.weights(indices).tolist()
                parameters = [values.tolist() for values in self.model.parameters()]
                yield epoch, indices.tolist(), weights, rate, parameters

    def save(self):
        file = io.BytesIO()
        torch.save([part.state_dict() for part in self.parts], file)
        return file.getvalue()

    def load(self, saved):
        states = torch.load(io.BytesIO(saved), weights_only=True)
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def columns(pruner):
    """The score columns, as they are, where a NaN equals another."""
    return {name: pruner.scores[name].nan_to_num(-1).tolist() for name in pruner.scores.columns}


def check_resuming(options, loader_options, stride):
    whole = Run(options, loader_options)
    steps, checkpoints, scores = [], [], []
    for step in whole.train():
        steps.append(step)
        checkpoints.append(whole.save())
        scores.append(columns(whole.pruner))
    assert len({epoch for epoch, *_ in steps}) == EPOCHS
    assert any(weight > 1 for _, _, weights, _, _ in steps for weight in weights)
    last_of_epochs = {i for i in range(len(steps) - 1) if steps[i][0] != steps[i + 1][0]}
    for done in sorted({*range(0, len(steps), stride), *last_of_epochs, len(steps) - 1}):
        resumed = Run(options, loader_options)
        resumed.load(checkpoints[done])
        assert columns(resumed.pruner) == scores[done]
        assert list(resumed.train()) == steps[done + 1 :], f"resumed after step {done}"
        assert columns(resumed.pruner) == scores[-1]
        assert resumed.pruner.report() == whole.pruner.report()


POLICIES = {
    "threshold": {"policy": InfoBatch()},
    "target": {"target": 0.2},
    "tiers": {"policy": PercentileTiers()},
    "random": {"policy": RandomPruning(0.4)},
    "no warm-up": {"policy": RandomPruning(0.4), "warmup_epochs": 0},
    "spaced": {"policy": Spaced(RandomPruning(0.4))},
    "sharded": {"layout": Sharded(4)},
    "sharded tiers": {"layout": Sharded(3), "policy": PercentileTiers(), "target": 0.3},
    "normalized": {"policy": InfoBatch(0.7), "normalizer": "weights"},
    "smaller batches": {"policy": InfoBatch(0.7), "shrink": "batches"},
    "smaller batches of twos": {"target": 0.2, "shrink": ShrinkBatches(multiple=2)},
    "sharded smaller batches": {"layout": Sharded(3), "policy": PercentileTiers(), "shrink": "batches"},
}


@pytest.mark.parametrize("options", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_plain_loader(options, drop_last):
    check_resuming(options, {"drop_last": drop_last}, stride=1)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_plain_loader_with_workers(persistent):
    options = {"num_workers": 2, "persistent_workers": persistent, "loader_class": DataLoader}
    check_resuming({}, options, stride=9)


@pytest.mark.parametrize("num_epochs", [4.3, 4.9])
@pytest.mark.parametrize("options", [{"delta": 0.6}, {"delta": 1, "shrink": "batches"}], ids=str)
def test_a_last_epoch_cut_short(num_epochs, options):
    check_resuming({"num_epochs": num_epochs, **options}, {}, stride=1)


@pytest.mark.parametrize("longer", [{"num_epochs": 2.7}, {"num_epochs": 4}, {"max_steps": 24}], ids=str)
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_a_run_that_ended_within_an_epoch_goes_on_within_it_if_it_becomes_longer(longer, shrink):
    def start(**length):
        options = {"policy": RandomPruning(0.4), "delta": 1, "shrink": shrink}
        pruner = DynamicPruner(range(SIZE), **length, **options)
        return pruner, pruner.loader(BATCH)

    def train(pruner, loader):
        for epoch in pruner.epochs():
            for indices, _ in loader:
                pruner.record(torch.ones(len(indices)), indices)
                yield epoch, indices.tolist()

    pruner, loader = start(num_epochs=2.4)
    steps, states = [], []
    for step in train(pruner, loader):
        steps.append(step)
        states.append(pruner.state_dict())
    ends = []
    for state in (states[-1], pruner.state_dict()):  # before the run knew that it had ended, and after
        resumed, loader = start(**longer)
        resumed.load_state_dict(state)
        ends.append(list(train(resumed, loader)))
        assert resumed.progress == 1
    assert ends[0] == ends[1]
    assert ends[0][0][0] == 2
    trained = [index for epoch, batch in [*steps, *ends[1]] if epoch == 2 for index in batch]
    assert len(trained) == len(set(trained)) == resumed.report().epochs[2].num_selected
    resumed, loader = start(num_epochs=2.4)
    resumed.load_state_dict(pruner.state_dict())
    assert list(train(resumed, loader)) == []


class Backwards:
    """A sampler of the user's own: another rotation of the data in each epoch, from the end."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(np.roll(np.arange(SIZE), self.epoch)[::-1])


class Buckets(Backwards):
    """Batches of samples that are alike by their remainder."""

    def __len__(self):
        return 3 * -(-SIZE // (3 * BATCH))

    def __iter__(self):
        order = np.fromiter(super().__iter__(), int)
        parts = [order[order % 3 == r] for r in np.roll(range(3), self.epoch)]
        for start in range(0, SIZE // 3 + 1, BATCH):
            yield from (part[start : start + BATCH].tolist() for part in parts)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", ["sampler", "batch_sampler"])
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_a_sampler_of_ones_own(kind, num_workers, shrink):
    def options():
        own = {"sampler": Backwards()} if kind == "sampler" else {"batch_sampler": Buckets()}
        return {**own, "num_workers": num_workers}

    bucket = {"bucket": lambda index: index % 3} if kind == "batch_sampler" else {}
    check_resuming({"shrink": shrink}, {**options(), **bucket}, stride=9 if num_workers else 1)


def check_resuming_at_every_step(options, loader_options, stride=1):
    """A run that is stopped and resumed again and again, after every ``stride`` steps."""
    whole = Run(options, loader_options)
    expected, steps = list(whole.train()), []
    run = Run(options, loader_options)
    for _ in range(0, len(expected), stride):
        training = run.train()
        steps += islice(training, stride)
        saved = run.save()
        for _ in training:  # to the end, for torchdata waits 5 s for workers left amid an epoch
            pass
        run = Run(options, loader_options)
        run.load(saved)
    assert steps == expected
    assert columns(run.pruner) == columns(whole.pruner)


@pytest.mark.parametrize("loader_class", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize("options", POLICIES.values(), ids=POLICIES)
def test_a_run_resumed_again_and_again(options, loader_class):
    check_resuming_at_every_step(options, {"loader_class": loader_class})


@pytest.mark.parametrize(
    "options",
    [
        {"loader_class": DataLoader, "num_workers": 2},
        {"loader_class": StatefulDataLoader, "num_workers": 2},
        {"loader_class": StatefulDataLoader, "snapshot_every_n_steps": 4},
        {"loader_class": StatefulDataLoader, "num_workers": 2, "snapshot_every_n_steps": 4},
    ],
    ids=["workers", "stateful workers", "stateful every 4", "stateful workers every 4"],
)
def test_a_run_resumed_after_every_nine_steps(options):
    check_resuming_at_every_step({}, options, stride=9)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_stateful_loader(every, drop_last):
    options = {"loader_class": StatefulDataLoader, "snapshot_every_n_steps": every}
    check_resuming({}, {**options, "drop_last": drop_last}, stride=1)


@pytest.mark.parametrize("options", POLICIES.values(), ids=POLICIES)
def test_a_stateful_loader_with_any_policy(options):
    check_resuming(options, {"loader_class": StatefulDataLoader}, stride=4)


@pytest.mark.parametrize("every", [1, 4])
def test_a_stateful_loader_with_workers(every):
    options = {"loader_class": StatefulDataLoader, "snapshot_every_n_steps": every, "num_workers": 2}
    check_resuming({}, options, stride=7)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_loader_saved_between_two_epochs(num_workers):
    options = {"loader_class": StatefulDataLoader, "num_workers": num_workers}
    whole, orders, checkpoints = Run({}, options), [], []
    for _ in whole.pruner.epochs():
        orders.append([])
        for indices, (x, y) in whole.loader:
            whole.pruner.update((whole.model(x).squeeze(1) - y) ** 2, indices).backward()
            orders[-1].append(indices.tolist())
        checkpoints.append(whole.save())
    for done, checkpoint in enumerate(checkpoints[:-1]):
        resumed = Run({}, options)
        resumed.load(checkpoint)
        assert next(resumed.pruner.epochs()) == done + 1
        assert [indices.tolist() for indices, _ in resumed.loader] == orders[done + 1]


def test_a_run_counted_in_steps():
    def make():
        pruner = DynamicPruner(range(50), max_steps=23, seed=1, policy=InfoBatch())
        return pruner, pruner.loader(8)

    def train(pruner, loader):
        for _ in pruner.epochs():
            for indices, _ in loader:
                pruner.update(torch.from_numpy(indices % 7).float(), indices)
                yield indices.tolist()

    whole, loader = make()
    steps, states = [], []
    for batch in train(whole, loader):
        steps.append(batch)
        states.append(whole.state_dict())
    for done, state in enumerate(states):
        pruner, loader = make()
        pruner.load_state_dict(state)
        assert list(train(pruner, loader)) == steps[done + 1 :]


def test_what_was_fetched_but_not_recorded_comes_again():
    pruner = DynamicPruner(range(40), 3, policy=InfoBatch())
    loader = pruner.loader(4)
    batches = iter(loader)
    trained = [next(batches) for _ in range(5)][:2]
    for indices, _ in trained:
        pruner.update(torch.ones(4), indices)
    other = DynamicPruner(range(40), 3, policy=InfoBatch())
    resumed = other.loader(4)
    other.load_state_dict(pruner.state_dict())
    assert len(resumed) == 8
    rest = [i for indices, _ in resumed for i in indices]
    assert [*trained[0][0], *trained[1][0], *rest] == pruner.current.order.tolist()


def test_the_length_stays_what_it_was_when_the_epoch_was_resumed():
    pruner = DynamicPruner(range(40), 3, policy=InfoBatch())
    loader = pruner.loader(4)
    indices, _ = next(iter(loader))
    pruner.update(torch.ones(4), indices)
    pruner.load_state_dict(pruner.state_dict())
    lengths = []
    for indices, _ in loader:
        pruner.update(torch.ones(len(indices)), indices)
        lengths.append(len(loader))
    assert lengths == [9] * 9


@pytest.mark.parametrize("batch_size", [20, 10, 5, 4])
def test_a_smaller_batch_size_leaves_no_batch_below_the_least(batch_size):
    """The epoch under way kept enough for batches of 4 or 2 alone, and has no more than it can fill."""

    def start(batch_size):
        policy = RandomPruning(0.9)
        pruner = DynamicPruner(range(200), 3, policy=policy, shrink="batches", delta=1)
        return pruner, pruner.loader(batch_size)

    pruner, loader = start(40)
    pruner.record(torch.ones(200), np.arange(200))
    pruner.set_epoch(1)
    first, _ = next(iter(loader))
    pruner.record(torch.ones(len(first)), first)
    resumed, loader = start(batch_size)
    resumed.load_state_dict(pruner.state_dict())
    num_batches, trained = len(loader), first.tolist()
    for indices, _ in loader:
        resumed.record(torch.ones(2), indices)
        trained += indices.tolist()
    assert len(trained) == 4 + 2 * num_batches == 20
    assert sorted(trained) == pruner.selection.indices.tolist()
    assert resumed.current.finished
