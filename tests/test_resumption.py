"""After a resume every sample of an epoch is trained once, or an error says that two parties skip."""

from functools import partial
from itertools import chain, islice

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from helpers import Numbers, random_losses
from infobatch import DynamicPruner, IndexedCollate, IndexedDataset, InfoBatch

SIZE, BATCH = 64, 8
LOSSES = random_losses(SIZE)


def train(pruner, batches):
    """Feed batches to the pruner; the samples of each."""
    for indices, _ in batches:
        pruner.update(LOSSES[indices], indices)
        yield indices.tolist()


def resumed(make, num_batches, with_loader=True):
    """A pruner and its loader, resumed after some batches of epoch 0, and the samples of those."""
    pruner, loader = make()
    trained = list(chain.from_iterable(islice(train(pruner, loader), num_batches)))
    state = pruner.state_dict()
    loader_state = loader.state_dict() if hasattr(loader, "state_dict") and with_loader else None
    pruner, loader = make()
    pruner.load_state_dict(state)
    if loader_state:
        loader.load_state_dict(loader_state)
    return pruner, loader, trained


def ours(shrink="steps", **options):
    pruner = DynamicPruner(Numbers(SIZE), 2, shrink=shrink, policy=InfoBatch())
    sizes = {} if "batch_sampler" in options else {"batch_size": BATCH}
    return pruner, pruner.loader(**sizes, **options)


def own(loader_class=DataLoader, resumes=True):
    pruner = DynamicPruner(Numbers(SIZE), 2, policy=InfoBatch())
    sampler = pruner.sampler(BATCH, resumes=resumes)
    dataset = IndexedDataset(Numbers(SIZE))
    return pruner, loader_class(dataset, BATCH, sampler=sampler, collate_fn=IndexedCollate())


PLAIN = {
    "steps": ours,
    "batches": partial(ours, shrink="batches"),
    "sampler": partial(ours, sampler=range(SIZE)),
    "batch_sampler": partial(ours, batch_sampler=BatchSampler(range(SIZE), BATCH, False)),
    "workers": partial(ours, num_workers=2),
    "own": own,
}
STATEFUL = {
    "class": partial(ours, loader_class=StatefulDataLoader),
    "partial": partial(ours, loader_class=partial(StatefulDataLoader, snapshot_every_n_steps=3)),
    "own": partial(own, StatefulDataLoader, resumes=False),
}


@pytest.mark.parametrize("make", [*PLAIN.values(), *STATEFUL.values()], ids=[*PLAIN, *STATEFUL])
@pytest.mark.parametrize("num_batches", [1, 5])
def test_every_sample_is_trained_once(make, num_batches):
    pruner, loader, trained = resumed(make, num_batches)
    assert sorted(chain(trained, *train(pruner, loader))) == list(range(SIZE))
    pruner.set_epoch(1)


def skipping(loader, num_batches):
    for number, batch in enumerate(loader):
        if number < num_batches:
            continue
        yield batch


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("num_batches", [1, 3])
def test_a_loop_that_skips_too(make, num_batches):
    pruner, loader, _ = resumed(make, num_batches)
    message = rf"resumed after {num_batches * BATCH} of .* so both skip, the pruner and .*`continue`"
    with pytest.raises(RuntimeError, match=message):
        next(train(pruner, skipping(loader, num_batches)))


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_a_loop_that_skips_all_of_the_rest(make):
    pruner, loader, _ = resumed(make, 5)
    assert list(train(pruner, skipping(loader, 5))) == []
    with pytest.raises(RuntimeError, match=r"resumed after 40 of .*ends without any of the rest"):
        pruner.set_epoch(1)


def test_the_last_epoch_is_checked_too():
    pruner, loader, _ = resumed(ours, 8)
    pruner.set_epoch(1)
    next(train(pruner, loader))
    again, _ = ours()
    again.load_state_dict(pruner.state_dict())
    with pytest.raises(RuntimeError, match=r"epoch 1 was resumed after 8 of .*without any of the rest"):
        list(again.epochs())


def test_a_loader_that_skips_over_a_sampler_that_does():
    pruner, loader, _ = resumed(partial(own, StatefulDataLoader), 3)
    with pytest.raises(RuntimeError, match=r"both skip, .*StatefulDataLoader over a sampler that"):
        next(train(pruner, loader))


@pytest.mark.parametrize("make", [*STATEFUL.values(), partial(own, resumes=False)])
def test_a_loader_that_should_skip_and_does_not(make):
    pruner, loader, _ = resumed(make, 3, with_loader=False)
    with pytest.raises(RuntimeError, match=r"24 of its samples .*begins the epoch anew"):
        next(train(pruner, loader))


def test_samples_that_are_left_out_of_the_first_batch():
    pruner, loader, trained = resumed(ours, 3)
    for number, (indices, _) in enumerate(loader):
        some = indices[2:] if number == 0 else indices
        pruner.update(LOSSES[some], some)
        trained += some.tolist()
    assert len(set(trained)) == len(trained) == SIZE - 2


def test_a_batch_may_be_passed_over_where_nothing_was_resumed():
    pruner, loader = ours()
    assert len(list(train(pruner, skipping(loader, 1)))) == SIZE // BATCH - 1
    pruner.set_epoch(1)


def test_workers_that_hand_in_batches_out_of_order():
    pruner, loader, _ = resumed(partial(ours, num_workers=2, in_order=False), 3)
    rest = [indices for indices, _ in loader]
    for indices in reversed(rest):
        pruner.update(LOSSES[indices], indices)
    assert pruner.current.finished


def test_another_batch_size_goes_on():
    pruner, loader, trained = resumed(ours, 3)
    other = DynamicPruner(Numbers(SIZE), 2, policy=InfoBatch())
    loader = other.loader(3)
    other.load_state_dict(pruner.state_dict())
    assert sorted(chain(trained, *train(other, loader))) == list(range(SIZE))


@pytest.mark.parametrize("skipped", [1, 3, 5])
def test_accelerates_skip_first_batches(skipped):
    accelerate = pytest.importorskip("accelerate")
    pruner, loader, _ = resumed(ours, skipped)

    def go_on():
        list(train(pruner, accelerate.skip_first_batches(loader, skipped)))
        pruner.set_epoch(1)

    with pytest.raises(RuntimeError, match="both skip, the pruner and accelerate's skip_first_batches"):
        go_on()


def test_accelerates_skip_first_batches_of_none():
    accelerate = pytest.importorskip("accelerate")
    pruner, loader, trained = resumed(ours, 3)
    rest = train(pruner, accelerate.skip_first_batches(loader, 0))
    assert sorted(chain(trained, *rest)) == list(range(SIZE))


def test_a_loop_of_ones_own_without_a_loader_is_left_alone():
    pruner = DynamicPruner(Numbers(SIZE), 2, policy=InfoBatch())
    pruner.update(torch.ones(4), [0, 1, 2, 3])
    other = DynamicPruner(Numbers(SIZE), 2, policy=InfoBatch())
    other.load_state_dict(pruner.state_dict())
    other.update(torch.ones(4), [60, 61, 62, 63])
    assert other.progress == 1 / 16
