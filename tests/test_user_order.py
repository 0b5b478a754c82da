"""Samplers of the user's own that visit a part of the data, or a sample twice."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torchdata.stateful_dataloader import StatefulDataLoader

from helpers import UNMERGED, Numbers, new_pruner, random_losses, train_epoch
from infobatch import DynamicPruner, InfoBatch, NoPruning, RandomPruning

SIZE, EPOCHS, BATCH = 60, 4, 8


class Chosen:
    """Indices given beforehand, in another order each epoch; without a length, if it is 0."""

    def __init__(self, indices, length=None):
        self.indices = np.asarray(indices)
        self.length = len(indices) if length is None else length
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(np.random.default_rng(self.epoch).permutation(self.indices))

    def __len__(self):
        if not self.length:
            raise TypeError("unknown")
        return self.length


class Batches:
    """A batch sampler that tells only the number of its batches."""

    def __init__(self, indices):
        self.sampler_ = BatchSampler(indices, BATCH, drop_last=False)

    def __len__(self):
        return len(self.sampler_)

    def __iter__(self):
        return iter(self.sampler_)


def weighted(num_draws=SIZE):
    weights = torch.rand(SIZE) ** 4
    return WeightedRandomSampler(weights, num_draws, generator=torch.Generator().manual_seed(1))


SAMPLERS = {
    "weighted": lambda: {"sampler": weighted()},
    "more draws than samples": lambda: {"sampler": weighted(2 * SIZE + 3)},
    "few with replacement": lambda: {"sampler": RandomSampler(range(SIZE), True, 21)},
    "subset": lambda: {"sampler": SubsetRandomSampler(range(0, SIZE, 2))},
    "plain range": lambda: {"sampler": range(10, 27)},
    "no length": lambda: {"sampler": Chosen(range(10, 27), 0)},
    "batches of a subset": lambda: {"batch_sampler": BatchSampler(Chosen(range(30)), BATCH, False)},
    "whole batches": lambda: {"batch_sampler": BatchSampler(Chosen(range(30)), BATCH, True)},
    "batches of a weighted one": lambda: {"batch_sampler": BatchSampler(weighted(90), BATCH, False)},
    "a list of batches": lambda: {"batch_sampler": [[1, 2, 3], [4, 5], [1, 6, 7]]},
    "batches of unknown sizes": lambda: {"batch_sampler": Batches(range(30))},
}


UNTOLD = {"no length", "batches of unknown sizes"}  # how many samples they give is not to be asked


def make(own, **options):
    pruner = new_pruner(SIZE, **{"num_epochs": EPOCHS, **options})
    return pruner, pruner.loader(**{"batch_size": BATCH} if "sampler" in own else {}, **own)


def cases():
    for kind in SAMPLERS:
        yield kind, {}, {"num_workers": 1}
        for policy, delta in itertools.product([None, NoPruning(), RandomPruning(0.6)], [0.875, 1]):
            yield kind, {"policy": policy, "delta": delta}, {}
            if "batches" not in kind:
                yield kind, {"policy": policy, "delta": delta}, {"drop_last": True}


@pytest.mark.parametrize(("kind", "options", "extra"), list(cases()), ids=str)
def test_every_epoch_ends_where_it_should(kind, options, extra):
    own = SAMPLERS[kind]()
    pruner, loader = make({**own, **extra}, **options)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    scheduler = pruner.lr_scheduler(LinearLR(optimizer, 1, 0.1, pruner.full_steps))
    losses, num_steps, last = random_losses(SIZE), 0, 0.0
    for epoch in pruner.epochs():
        assert pruner.progress == epoch / EPOCHS
        assert not pruner.current.finished
        for indices, _ in loader:
            assert not pruner.current.finished
            pruner.update(losses[indices], indices)
            optimizer.step()
            scheduler.step()
            num_steps += 1
            assert last <= pruner.progress <= (epoch + 1) / EPOCHS
            last = pruner.progress
        assert pruner.current.finished
        assert pruner.progress == (epoch + 1) / EPOCHS
        with pytest.raises(RuntimeError, match=f"epoch {epoch} is finished"):
            next(iter(loader))
    assert scheduler.get_last_lr() == [pytest.approx(0.01)]
    assert scheduler.scheduler.last_epoch == pruner.full_steps
    if isinstance(pruner.policy, NoPruning) and kind not in UNTOLD:
        assert num_steps == pruner.full_steps
    assert pruner.report().num_unreached == 0


@pytest.mark.parametrize("kind", sorted(SAMPLERS.keys() - UNTOLD - {"a list of batches"}))
def test_on_full_data_each_batch_is_one_step(kind):
    own = SAMPLERS[kind]()
    pruner, loader = make(own, policy=NoPruning())
    length, progress = pruner.full_steps // EPOCHS, []
    for epoch in pruner.epochs():
        for step, (indices, _) in enumerate(loader, 1):
            pruner.update(random_losses(SIZE)[indices], indices)
            progress.append(pruner.progress)
            assert int(pruner.progress * pruner.full_steps + 1e-6) == epoch * length + step
    assert len(progress) == pruner.full_steps


def test_the_length_of_an_epoch_is_the_samplers_own():
    def full_steps(**options):
        return make(options)[0].full_steps / EPOCHS

    assert full_steps(sampler=weighted(21)) == 3
    assert full_steps(sampler=weighted(21), drop_last=True) == 2
    assert full_steps(sampler=Chosen(range(9), 0)) == 8
    assert full_steps(batch_sampler=BatchSampler(range(30), 7, drop_last=False)) == 5
    assert full_steps(batch_sampler=[[1], [2, 3, 4]]) == 2


def test_a_target_counts_the_samplers_own_draws():
    pruner, loader = make({"sampler": weighted(40)}, policy=RandomPruning(), target=0.25)
    assert pruner.full_steps == 20
    assert pruner.total_steps == 5 + 4 + 4 + 4  # of 40 and three times 27 expected draws
    for _ in pruner.epochs():
        train_epoch(pruner, loader, random_losses(SIZE))
    assert "of 160 samples trained" in str(pruner.report())


@pytest.mark.parametrize("length", [{"num_epochs": 2.5}, {"num_epochs": None, "max_steps": 13}], ids=str)
@pytest.mark.parametrize("kind", ["sampler", "batch_sampler"])
def test_a_last_epoch_is_cut_after_its_part_of_the_draws(length, kind):
    sampler = Chosen(range(40))
    own = {kind: sampler if kind == "sampler" else BatchSampler(sampler, BATCH, False)}
    pruner, loader = make(own, policy=NoPruning(), **length)
    batches = [train_epoch(pruner, loader, random_losses(SIZE)) for _ in pruner.epochs()]
    assert sum(map(len, batches)) == pruner.full_steps == 13
    expected = list(sampler)[: 20 if kind == "sampler" and length["num_epochs"] else 24]
    assert np.concatenate(batches[-1]).tolist() == expected
    assert pruner.progress == 1


@pytest.mark.parametrize("kind", ["sampler", "batch_sampler"])
@pytest.mark.parametrize("shrink", ["steps", "batches"])
@pytest.mark.parametrize("max_steps", range(20, 40))
def test_a_run_of_ones_own_batches_has_the_steps_it_was_given(kind, shrink, max_steps):
    policy = RandomPruning(0.3) if shrink == "batches" else NoPruning()
    pruner = DynamicPruner(Numbers(203), max_steps=max_steps, policy=policy, shrink=shrink, delta=1)
    sampler = Chosen(range(203))
    own = {"sampler": sampler, "batch_size": 16}
    loader = pruner.loader(
        **own if kind == "sampler" else {"batch_sampler": BatchSampler(sampler, 16, False)}
    )
    steps = sum(len(train_epoch(pruner, loader, random_losses(203))) for _ in pruner.epochs())
    assert steps == pruner.full_steps == max_steps


def test_a_sampler_whose_samples_are_all_left_out():
    pruner, loader = make({"sampler": [3]}, policy=RandomPruning(0.9), num_epochs=30)
    visits = 0
    for _ in pruner.epochs():
        visits += len(train_epoch(pruner, loader, random_losses(SIZE)))
        assert pruner.current.finished
    assert 3 <= visits < 15
    assert pruner.progress == 1


def test_batches_passed_over_do_not_keep_an_epoch_from_ending():
    pruner, loader = make({"sampler": weighted()})
    for epoch in pruner.epochs():
        assert pruner.progress == epoch / EPOCHS
        for step, (indices, _) in enumerate(loader):
            if step != 3:
                pruner.update(torch.ones(len(indices)), indices)
        assert not pruner.current.finished
    assert pruner.progress == 1
    assert pruner.current.finished
    assert [counts.num_recorded for counts in pruner.history][:1] == [SIZE - BATCH]


DRAWN_TWICE = np.random.default_rng(0).integers(0, SIZE, 50)


def deterministic(kind):
    if kind == "sampler":
        return {"sampler": Chosen(DRAWN_TWICE)}
    if kind == "bucket":
        return {"batch_sampler": BatchSampler(Chosen(DRAWN_TWICE), 7, False), "bucket": lambda i: i % 3}
    return {"batch_sampler": BatchSampler(Chosen(DRAWN_TWICE), 7, False)}


@pytest.mark.parametrize("kind", ["sampler", "batch_sampler", "bucket"])
@pytest.mark.parametrize("extra", [{}, {"loader_class": StatefulDataLoader}], ids=str)
@pytest.mark.parametrize("num_epochs", [4, 3.4])
def test_a_sampler_that_draws_a_sample_twice_is_resumed_at_any_step(kind, extra, num_epochs):
    def start():
        return make({**deterministic(kind), **extra}, num_epochs=num_epochs, delta=1)

    def train(pruner, loader):
        for epoch in pruner.epochs():
            for indices, _ in loader:
                pruner.update(random_losses(SIZE, epoch)[indices], indices)
                yield epoch, indices.tolist(), pruner.progress

    whole, loader = start()
    steps, states = [], []
    for step in train(whole, loader):
        steps.append(step)
        states.append((whole.state_dict(), loader.state_dict() if extra else None))
    for done, (state, loader_state) in enumerate(states):
        pruner, loader = start()
        pruner.load_state_dict(state)
        if extra:
            loader.load_state_dict(loader_state)
        assert pruner.progress == steps[done][-1]
        assert list(train(pruner, loader)) == steps[done + 1 :], done
        assert pruner.report() == whole.report()


class Drawn(Chosen):
    """Samples drawn with replacement, others in each epoch."""

    def __iter__(self):
        return iter(np.random.default_rng(self.epoch).choice(self.indices, len(self.indices)))


PARTS = {
    "one by one": lambda batch: [batch[i : i + 1] for i in range(len(batch))],
    "from the end": lambda batch: [batch[i - 2 : i] for i in range(len(batch), 0, -2)],
    "sorted": lambda batch: [np.sort(batch)],
    "twice": lambda batch: [batch, batch],
    "by halves and whole": lambda batch: [batch[::2], batch[1::2], batch],
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("looks", [False, True])
def test_each_draw_counts_once_in_whatever_parts_a_batch_is_recorded(parts, looks):
    pruner, loader = make({"sampler": Drawn(range(SIZE))}, policy=RandomPruning(0.3), delta=1)
    for _ in pruner.epochs():
        num_drawn = 0
        for step, (batch, _) in enumerate(loader):
            num_drawn += len(batch)
            for indices in parts(batch):
                pruner.update(torch.ones(len(indices)), indices)
            assert pruner.current.num_done == num_drawn
            if looks and step == 2:
                next(iter(loader))
        assert pruner.current.finished


def test_a_look_between_batches_of_a_single_sample_changes_nothing():
    pruner = new_pruner(SIZE, EPOCHS, policy=NoPruning())
    loader = pruner.loader(1, sampler=Drawn(range(SIZE)))
    for epoch in pruner.epochs():
        for step, (indices, _) in enumerate(loader):
            pruner.update(torch.ones(1), indices)
            if step % 9 == 4:
                next(iter(loader))
        assert pruner.current.num_done == SIZE
        assert pruner.progress == (epoch + 1) / EPOCHS


def test_parts_of_a_batch_are_not_trained_again_after_a_state():
    trained = np.zeros(SIZE, int)
    own = {"sampler": Drawn(range(SIZE))}
    pruner, loader = make(own, policy=NoPruning())
    for batch, _ in itertools.islice(loader, 4):
        for i in range(BATCH):
            pruner.update(torch.ones(1), batch[i : i + 1])
        np.add.at(trained, batch, 1)
    resumed, loader = make({"sampler": Drawn(range(SIZE))}, policy=NoPruning())
    resumed.load_state_dict(pruner.state_dict())
    np.add.at(trained, np.concatenate(train_epoch(resumed, loader, random_losses(SIZE))), 1)
    assert trained.tolist() == np.bincount(list(Drawn(range(SIZE))), minlength=SIZE).tolist()


def test_a_checkpoint_in_the_librarys_order_goes_on_in_ones_own():
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS, policy=InfoBatch())
    indices, _ = next(iter(pruner.loader(BATCH)))
    pruner.update(torch.ones(BATCH), indices)
    other, loader = make({"sampler": range(SIZE)})
    other.load_state_dict(pruner.state_dict())
    assert other.progress == pruner.progress
    rest = np.concatenate(train_epoch(other, loader, random_losses(SIZE)))
    assert sorted([*rest, *indices]) == list(range(SIZE))
    assert other.progress == 1 / EPOCHS


def test_the_epoch_reaches_the_sampler_within_a_batch_sampler():
    inner = Chosen(range(SIZE))
    pruner, loader = make({"batch_sampler": BatchSampler(inner, BATCH, drop_last=False)})
    for epoch in pruner.epochs():
        assert inner.epoch == epoch
        train_epoch(pruner, loader, random_losses(SIZE))


@pytest.mark.parametrize("kind", ["sampler", "batch_sampler"])
def test_on_several_replicas_it_gives_this_ranks_share(kind):
    rates = []
    for rank in range(2):
        options = {"rank": rank, "num_replicas": 2, "layout": UNMERGED}
        mine = DistributedSampler(range(SIZE), 2, rank)
        own = {kind: mine if kind == "sampler" else BatchSampler(mine, BATCH, False)}
        pruner, loader = make(own, policy=NoPruning(), **options)
        assert pruner.full_steps == EPOCHS * 4
        trace = []
        for epoch in pruner.epochs():
            assert mine.epoch == epoch
            for indices, _ in loader:
                pruner.update(torch.ones(len(indices)), indices)
                trace.append(pruner.progress)
        assert len(trace) == pruner.full_steps
        assert trace[-1] == 1
        rates.append(trace)
    assert rates[0] == rates[1]


def test_a_loader_whose_order_is_not_the_runs_is_refused():
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS, policy=InfoBatch())
    mine = pruner.loader(BATCH, sampler=range(SIZE))
    ours = pruner.loader(BATCH)
    with pytest.raises(RuntimeError, match="make one loader for a pruner"):
        next(iter(mine))
    assert len(next(iter(ours))[0]) == BATCH
    other = DynamicPruner(Numbers(SIZE), EPOCHS, policy=InfoBatch())
    ours = other.loader(BATCH)
    other.loader(BATCH, sampler=range(SIZE))
    with pytest.raises(RuntimeError, match="make one loader for a pruner"):
        next(iter(ours))


@pytest.mark.parametrize("own", [{"sampler": []}, {"batch_sampler": []}], ids=str)
def test_a_sampler_that_gives_nothing_is_refused(own):
    with pytest.raises(ValueError, match="the sampler gives no samples"):
        make(own)


class Endless(Sampler):
    """Permutations of all samples, one after another without an end."""

    def __init__(self, size, length=None):
        self.size, self.length = size, length

    def __iter__(self):
        generator = np.random.default_rng(0)
        while True:
            yield from generator.permutation(self.size)

    def __len__(self):
        if self.length is None:
            raise TypeError("unknown")
        return self.length


@pytest.mark.parametrize("length", [None, 40])
def test_an_epoch_of_an_endless_sampler_ends_where_full_data_would(length):
    def start():
        options = {"num_epochs": None, "max_steps": 21, "policy": NoPruning()}
        return make({"sampler": Endless(SIZE, length)}, **options)

    expected = list(itertools.islice(Endless(SIZE), 21 * BATCH))
    pruner, loader = start()
    seen, state = [], None
    for epoch in pruner.epochs():
        for step, (indices, _) in enumerate(loader):
            pruner.update(torch.ones(len(indices)), indices)
            seen += indices.tolist()
            if (epoch, step) == (1, 2):
                state, num_before = pruner.state_dict(), len(seen)
    assert seen == expected[: len(seen)]
    assert pruner.full_steps == 21
    assert len(seen) == pruner.report().num_full
    assert 20 * BATCH <= len(seen) <= 21 * BATCH
    resumed, loader = start()
    resumed.load_state_dict(state)
    rest = [np.concatenate(train_epoch(resumed, loader, random_losses(SIZE))) for _ in resumed.epochs()]
    assert np.concatenate(rest).tolist() == seen[num_before:]


def test_a_length_that_is_told_too_low_cuts_no_epoch():
    pruner, loader = make({"sampler": Chosen(range(40), 30)}, policy=NoPruning())
    for _ in pruner.epochs():
        assert sum(map(len, train_epoch(pruner, loader, random_losses(SIZE)))) == 40


class Curriculum(Sampler):
    """More samples in each epoch."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 15 * (self.epoch + 1)

    def __iter__(self):
        return iter(range(len(self)))


CURRICULA = {
    "sampler": lambda: {"sampler": Curriculum()},
    "batches": lambda: {"batch_sampler": BatchSampler(Curriculum(), BATCH, False)},
}


@pytest.mark.parametrize("kind", CURRICULA)
def test_a_samplers_length_is_asked_when_an_epoch_begins(kind):
    pruner, loader = make(CURRICULA[kind](), policy=NoPruning())
    state = None
    for epoch in pruner.epochs():
        for step, (indices, _) in enumerate(loader):
            pruner.update(torch.ones(len(indices)), indices)
            done = min(1, (step + 1) * BATCH / (15 * (epoch + 1)))
            assert pruner.progress == pytest.approx((epoch + done) / EPOCHS)
            if (epoch, step) == (2, 1):
                state, progress = pruner.state_dict(), pruner.progress
    report = pruner.report()
    assert [counts.num_full for counts in report.epochs] == [15, 30, 45, 60]
    assert (report.saved, report.num_unreached) == (0, 0)
    resumed, loader = make(CURRICULA[kind](), policy=NoPruning())
    resumed.load_state_dict(state)
    assert resumed.progress == progress
    assert sum(map(len, train_epoch(resumed, loader, random_losses(SIZE)))) == 45 - 2 * BATCH


def test_a_run_in_steps_cannot_follow_a_samplers_length():
    pruner, loader = make({"sampler": Curriculum()}, num_epochs=None, max_steps=20)
    train_epoch(pruner, loader, random_losses(SIZE))
    with pytest.raises(ValueError, match=r"gives 30 samples .* gave 15 before, .* give num_epochs"):
        pruner.set_epoch(1)


def test_a_loader_may_be_made_anew_for_each_epoch():
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS, policy=NoPruning())
    for epoch in pruner.epochs():
        loader = pruner.loader(BATCH, sampler=range(10 * (epoch + 1)))
        assert sum(map(len, train_epoch(pruner, loader, random_losses(SIZE)))) == 10 * (epoch + 1)
    assert pruner.report().saved == 0


@pytest.mark.parametrize("ended", [1, 2])
def test_an_endless_sampler_goes_on_after_a_state_taken_at_an_epochs_end(ended):
    class Endless:
        def __len__(self):
            return 8

        def __iter__(self):
            return (i % 24 for i in itertools.count())

    def run(state=None):
        pruner = DynamicPruner(Numbers(24), 3, policy=NoPruning())
        loader = pruner.loader(4, sampler=Endless())
        if state is not None:
            pruner.load_state_dict(state)
        seen, states = [], []
        for _ in pruner.epochs():
            for indices, _ in loader:
                pruner.record(torch.ones(4), indices)
                seen += indices.tolist()
            states.append(copy.deepcopy(pruner.state_dict()))
        return seen, states

    whole, states = run()
    assert whole == list(range(24))
    assert run(states[ended - 1])[0] == whole[8 * ended :]
