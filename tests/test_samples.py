"""A run goes on with the samples that its scores belong to, and takes in new ones."""

import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils.data import (
    ConcatDataset,
    Dataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)

from helpers import Numbers, new_pruner, random_losses, record_epoch, train_epoch
from infobatch import DynamicPruner, InfoBatch, NoPruning, Sharded
from infobatch.policies import Static
from infobatch.samples import Samples
from infobatch.streams import SampleIds


class Wrapped(Dataset):
    """A dataset of the user's own around another."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return self.inner[index]


class Named(Numbers):
    """A dataset that names its samples, as torchvision's CocoDetection does."""

    def __init__(self, ids):
        super().__init__(len(ids))
        self.ids = ids


class Joined(Dataset):
    """A dataset of several in a row."""

    def __init__(self, parts):
        self.parts = parts

    def __len__(self):
        return sum(map(len, self.parts))


class WithPool(Wrapped):
    """A dataset that pairs its samples with some of a pool."""

    def __init__(self, inner, size, seed=0):
        super().__init__(inner)
        self.size = size
        self.draw(seed)

    def draw(self, seed):
        chosen = torch.randperm(300, generator=torch.Generator().manual_seed(seed))
        self.pool = Subset(Numbers(300), chosen[: self.size].tolist())


def split(seed):
    return random_split(Numbers(50), [40, 10], torch.Generator().manual_seed(seed))[0]


def hugging_face(seed):
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict({"x": list(range(50))}).train_test_split(10, seed=seed)["train"]


DATASETS = {
    "split": split,
    "split of a split": lambda seed: Subset(split(seed), list(range(20))),
    "split within one's own": lambda seed: Wrapped(split(seed)),
    "split within a list": lambda seed: ConcatDataset([Numbers(3), split(seed)]),
    "split within a tuple": lambda seed: StackDataset(Numbers(40), split(seed)),
    "part of what has ids": lambda seed: Subset(DATASETS["ids"](seed), list(range(20))),
    "part of one's own": lambda seed: Subset(Wrapped(DATASETS["ids"](seed)), list(range(20))),
    "other order": lambda seed: Subset(Numbers(50), list(range(20))[:: 1 - 2 * seed]),
    "tensor of indices": lambda seed: Subset(Numbers(50), torch.arange(seed, 20 + seed)),
    "ids": lambda seed: Named([f"{number + seed}.png" for number in range(30)]),
    "ids of a stream": lambda seed: SampleIds.of(range(seed, 30 + seed)),
    "hugging face": hugging_face,
}


@pytest.mark.parametrize("kind", DATASETS)
def test_a_state_of_other_samples_is_refused(kind):
    make = DATASETS[kind]
    state = DynamicPruner(make(0), 3).state_dict()
    DynamicPruner(make(0), 3).load_state_dict(state)
    with pytest.raises(ValueError, match=r"is of \d+ other samples .* check_data=False"):
        DynamicPruner(make(1), 3).load_state_dict(state)
    DynamicPruner(make(1), 3, check_data=False).load_state_dict(state)


class Looked(Dataset):
    """Looks attributes up in a dict."""

    def __init__(self):
        self.kept = {"images": range(5)}

    def __getattr__(self, name):
        return self.__dict__["kept"][name]

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return self.images[index]


UNTOLD = {
    "a way of its own": Looked(),
    "no list": TensorDataset(torch.rand(5)),
    "lists of tokens": Named([[5, 6, 7], [8, 9], [1], [2, 3], [4]]),
    "tensors of tokens": Named([torch.arange(3), torch.arange(2)]),
    "a matrix of tokens": Named(torch.ones(4, 2, dtype=torch.int64)),
    "numbers": Named(torch.rand(4)),
    "short numbers": Named(torch.rand(4).bfloat16()),
    "a mask": Named([True, False, True]),
    "some without an id": Named(["a", None, "c"]),
    "ids of other samples": WithPool(Numbers(100), 50),
}


@pytest.mark.parametrize("kind", UNTOLD)
def test_a_dataset_that_does_not_tell_which_samples_it_holds(kind):
    assert Samples(UNTOLD[kind]).fingerprint is None
    DynamicPruner(UNTOLD[kind], 3)


def test_ids_are_told_alike_whatever_holds_them():
    numbers = [5, 2**62, -3]
    held = [numbers, tuple(numbers), np.array(numbers), torch.tensor(numbers), [*map(np.int64, numbers)]]
    assert len({Samples(Named(ids)).fingerprint for ids in held}) == 1
    short = [[5, 7, 9], np.array([5, 7, 9], np.uint8), torch.tensor([5, 7, 9], dtype=torch.int32)]
    assert len({Samples(Named(ids)).fingerprint for ids in short}) == 1
    texts = [["a", "bc"], np.array(["a", "bc"]), np.array(["a", "bc"], object), [*np.array(["a", "bc"])]]
    assert len({Samples(Named(ids)).fingerprint for ids in texts}) == 1
    others = [numbers, ["a", "bc"], ["ab", "c"], [b"a", b"bc"], [2**80, 1], [2**80, 2], [1, "a"]]
    told = {Samples(Named(ids)).fingerprint for ids in others}
    assert len(told) == len(others)
    assert None not in told


def test_many_ids_take_little_memory():
    ids = [f"{index:08d}.jpg" for index in range(50_000)]
    ids[7] = "x" * 2000
    tracemalloc.start()
    samples = Samples(Named(ids))
    samples.check_unchanged()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    ids[40_000], ids[40_001] = ids[40_001], ids[40_000]
    with pytest.raises(ValueError, match="other samples than before"):
        samples.check_unchanged()


def new_samples(pruner, dataset, number, losses):
    record_epoch(pruner, losses)
    dataset.size += number
    pruner.set_epoch(pruner.epoch + 1)


@pytest.mark.parametrize("policy", [InfoBatch(), NoPruning()], ids=repr)
def test_new_samples_enter_without_a_score(policy):
    dataset = Numbers(60)
    pruner = DynamicPruner(dataset, 4, policy=policy)
    loader = pruner.loader(10)
    losses = random_losses(100)
    new_samples(pruner, dataset, 40, losses)
    assert pruner.num_samples == len(pruner.selection.weights) == 100
    assert pruner.scores["last_loss"][60:].isnan().all()
    assert torch.equal(pruner.scores["last_loss"][:60], losses[:60])
    trained = torch.cat([batch for _, batch in loader])
    assert set(range(60, 100)) <= set(trained.tolist())
    record_epoch(pruner, losses)
    pruner.set_epoch(2)
    assert pruner.report().num_full == 60 + 100 + 100
    again = DynamicPruner(Numbers(100), 4, policy=policy)
    again.loader(10)
    again.load_state_dict(pruner.state_dict())
    assert again.current.order.tolist() == pruner.current.order.tolist()


def test_new_samples_before_the_first_epoch_are_in_its_state():
    dataset = Numbers(60)
    pruner = DynamicPruner(dataset, 4)
    dataset.size = 100
    pruner.loader(10)
    record_epoch(pruner, random_losses(100))
    again = DynamicPruner(dataset, 4)
    again.loader(10)
    again.load_state_dict(pruner.state_dict())
    assert again.current.finished


def test_a_target_is_a_share_of_what_there_is():
    dataset = Numbers(60)
    pruner = DynamicPruner(dataset, 5, delta=1, target=0.4)
    pruner.loader(10)
    new_samples(pruner, dataset, 40, random_losses(100))
    assert pruner.selection.num_selected == 50  # 0.4 of five epochs is half of four


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (-1, {}, "had 60 samples and has 59; .* make a new pruner"),
        (4, {"num_epochs": None, "max_steps": 30}, "had 60 before, so that max_steps=30 is another"),
        (4, {"policy": Static(torch.rand(60))}, "of 60 samples, but the dataset has 64"),
        (4, {"layout": Sharded(4)}, "has 64 samples, and had 60: with layout=Sharded"),
    ],
    ids=str,
)
def test_changes_that_cannot_be_taken_in(change, options, message):
    dataset = Numbers(60)
    pruner = DynamicPruner(dataset, **{"num_epochs": 4, **options})
    pruner.loader(10)
    for batch in torch.as_tensor(pruner.current.share_of_rank()).split(10):
        pruner.record(torch.rand(len(batch)), batch)
    dataset.size += change
    with pytest.raises(ValueError, match=message):
        pruner.set_epoch(1)


def test_other_samples_in_the_same_places():
    dataset = Subset(Numbers(90), list(range(60)))
    pruner = DynamicPruner(dataset, 4)
    record_epoch(pruner, random_losses(60))
    dataset.indices = list(range(70))
    pruner.set_epoch(1)
    record_epoch(pruner, random_losses(70))
    dataset.indices = list(range(10, 80))
    with pytest.raises(
        ValueError,
        match=r"other samples than before under the same indices \(its indices have .* check_data=False",
    ):
        pruner.set_epoch(2)
    unchecked = DynamicPruner(dataset, 4, check_data=False)
    record_epoch(unchecked, random_losses(70))
    dataset.indices = list(range(70))
    unchecked.set_epoch(1)
    assert unchecked.state_dict()["samples"] is None


def test_other_samples_within_ones_own():
    dataset = Wrapped(Wrapped(Subset(Numbers(90), list(range(60)))))
    samples = Samples(dataset)
    dataset.inner.inner.indices = list(range(70))
    samples.check_unchanged()
    dataset.inner.inner.indices = list(range(69, -1, -1))
    with pytest.raises(ValueError, match=r"its inner\.inner\.indices have changed"):
        samples.check_unchanged()


def test_new_samples_in_the_middle():
    first, last = Subset(Numbers(90), list(range(6))), Subset(Numbers(90), list(range(9)))
    samples = Samples(Joined([first, last]))
    last.indices = list(range(12))
    samples.check_unchanged()
    first.indices = list(range(8))
    with pytest.raises(ValueError, match=r"its parts\.1\.indices have changed"):
        samples.check_unchanged()


@pytest.mark.parametrize("ids", [[f"{index}" for index in range(10)], list(range(10))], ids=repr)
@pytest.mark.parametrize("kind", [list, np.array])
def test_new_ids_may_be_longer(ids, kind):
    dataset = Named(kind(ids))
    samples = Samples(dataset)
    dataset.size, dataset.ids = 11, kind([*ids, type(ids[0])(10**6)])
    samples.check_unchanged()
    assert samples.fingerprint == Samples(dataset).fingerprint


def test_a_pool_that_is_drawn_anew_is_none_of_the_samples():
    dataset = WithPool(split(0), 20)
    pruner = DynamicPruner(dataset, 3)
    loader = pruner.loader(10)
    for epoch in pruner.epochs():
        dataset.draw(epoch)
        train_epoch(pruner, loader, random_losses(40))
    state = pruner.state_dict()
    DynamicPruner(WithPool(split(0), 20, seed=9), 3).load_state_dict(state)
    with pytest.raises(ValueError, match="other samples"):
        DynamicPruner(WithPool(split(1), 20), 3).load_state_dict(state)


def test_a_part_without_a_length_tells_nothing():
    class Endless(Dataset):
        def __len__(self):
            raise TypeError("has no length")

    dataset = Wrapped(Numbers(5))
    dataset.others = Endless()
    assert Samples(dataset).fingerprint is None


def test_a_state_names_no_samples_where_none_are_known():
    assert new_pruner().state_dict()["samples"] is None
