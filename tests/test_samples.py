"""A run goes on with the samples that its scores belong to, and takes in new ones."""

import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, random_split

from helpers import Numbers, new_pruner, random_losses, record_epoch
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
    before = {name: value for name, value in state.items() if name != "samples"}
    DynamicPruner(make(1), 3).load_state_dict(before)


def test_a_dataset_that_does_not_tell_which_samples_it_holds():
    assert Samples(TensorDataset(torch.rand(5))).fingerprint is None


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
    with pytest.raises(ValueError, match="has other samples than before under the same indices"):
        pruner.set_epoch(2)


def test_a_state_names_no_samples_where_none_are_known():
    assert new_pruner().state_dict()["samples"] is None
