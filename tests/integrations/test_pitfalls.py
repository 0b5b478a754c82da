"""What goes wrong where a framework meets a sampler whose length changes, and that it does not here.

Each test first shows the naive way failing, against the framework that is installed.
"""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from helpers import UNMERGED, Numbers, launch, random_losses, record_epoch
from infobatch import DynamicPruner, InfoBatch, RandomPruning

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from accelerate.data_loader import prepare_data_loader
from transformers import Trainer

from helpers.trainer import SIZES, Watched, batch_counts, trainer

pytestmark = pytest.mark.integrations

FOUR = [40, 24, 16, 40]  # samples of each epoch, in batches of 4


class Selections(Sampler):
    """The obvious sampler: each epoch's selection, drawn when the framework tells of the epoch."""

    def __init__(self, sizes):
        self.sizes, self.epoch, self.told = sizes, 0, []

    def set_epoch(self, epoch):
        self.epoch = epoch
        self.told.append(epoch)

    def __len__(self):
        return self.sizes[min(self.epoch, len(self.sizes) - 1)]

    def __iter__(self):
        return iter(range(len(self)))


class Naive(Trainer):
    """The stock Trainer with that sampler."""

    sizes, num_batches = FOUR, 0

    def _get_train_sampler(self, dataset=None):
        self.sampler = Selections(self.sizes)
        return self.sampler

    def training_step(self, *args, **kwargs):
        self.num_batches += 1
        return super().training_step(*args, **kwargs)


# -- transformers --------------------------------------------------------------------------------------


def test_what_is_accumulated_at_an_epochs_end_is_stepped(tmp_path):
    arguments = {"num_train_epochs": 4, "gradient_accumulation_steps": 4}
    naive = trainer(tmp_path, Naive, **arguments)
    naive.train()
    assert any(naive.notes.left_over), "gradients leak into the next epoch"
    ours = trainer(tmp_path, pruning=SIZES, **arguments)
    ours.train()
    assert not any(ours.notes.left_over)
    assert batch_counts(ours) == [3, 2, 1, 3]


def test_the_learning_rate_and_the_epochs_come_to_their_end(tmp_path):
    naive = trainer(tmp_path, Naive, num_train_epochs=4)
    naive.train()
    assert naive.num_batches == 30
    assert naive.lr_scheduler.get_last_lr()[0] == pytest.approx(0.025), "a quarter of the peak is left"
    assert naive.notes.positions[15] != 2, "and positions are not those of the epochs"
    ours = trainer(tmp_path, pruning=SIZES, num_train_epochs=4)
    ours.train()
    assert ours.lr_scheduler.get_last_lr()[0] == 0
    assert ours.notes.positions[15] == 2


def test_a_length_in_steps_reaches_its_end(tmp_path):
    """The number of epochs is derived from the first one's length."""
    naive = trainer(tmp_path, partial_kind([32, 20]), max_steps=40)
    naive.train()
    assert naive.state.global_step < 40
    assert naive.lr_scheduler.get_last_lr()[0] > 0.025
    pruning = {"policy": RandomPruning(0.5), "delta": 1}
    ours = trainer(tmp_path, pruning=pruning, max_steps=40)
    ours.train()
    assert ours.state.global_step < 40
    assert ours.lr_scheduler.get_last_lr()[0] == 0
    assert ours.pruner.progress == 1


def partial_kind(sizes):
    return type("Sized", (Naive,), {"sizes": sizes})


def test_a_resumed_run_goes_on_in_its_epoch(tmp_path):
    """The epoch is computed from the first one's length: 22 steps are two epochs of 10, not three."""
    arguments = {"num_train_epochs": 4, "save_strategy": "steps", "save_steps": 22}
    naive = trainer(tmp_path / "naive", Naive, **arguments)
    naive.train()
    whole = naive.num_batches
    resumed = trainer(tmp_path / "naive", Naive, **arguments)
    resumed.train(resume_from_checkpoint=str(tmp_path / "naive" / "checkpoint-22"))
    assert resumed.sampler.told[0] == 2
    assert 22 + resumed.num_batches > whole
    ours = trainer(tmp_path / "ours", pruning=SIZES, **arguments)
    ours.train()
    resumed = trainer(tmp_path / "ours", Watched, pruning=SIZES, **arguments)
    resumed.train(resume_from_checkpoint=str(tmp_path / "ours" / "checkpoint-22"))
    assert resumed.seen == ours.seen[22:]
    assert resumed.pruner.report() == ours.pruner.report()


# -- Accelerate ----------------------------------------------------------------------------------------


def shares(make_loader, **options):
    """What each of two processes sees of a loader that Accelerate prepares."""
    batches = [
        list(
            prepare_data_loader(
                make_loader(rank), num_processes=2, process_index=rank, put_on_device=False, **options
            )
        )
        for rank in range(2)
    ]
    return [[np.asarray(batch).tolist() for batch in of_rank] for of_rank in batches]


def pruned(rank, size=59):
    """A pruner in its second epoch, which trains ``size`` of 100 samples, of one of two ranks."""
    options = {"rank": rank, "num_replicas": 2, "layout": UNMERGED}
    policy = InfoBatch(0.9)
    pruner = DynamicPruner(Numbers(100), 4, policy=policy, target=[0, 100 - size, 0, 0], **options)
    loader = pruner.loader(4)
    record_epoch(pruner, random_losses(100))
    pruner.set_epoch(1)
    assert pruner.selection.num_selected == size
    return pruner, loader


def test_no_sample_counts_twice_where_the_selection_does_not_divide():
    naive = shares(lambda rank: DataLoader(range(57), 4))
    seen = [i for of_rank in naive for batch in of_rank for i in batch]
    assert len(seen) > len(set(seen)) == 57, "even_batches repeats samples, at full weight"
    uneven = shares(lambda rank: DataLoader(range(50), 8), split_batches=True, even_batches=False)
    assert len(uneven[0]) != len(uneven[1]), "without it the processes' batches differ in number"

    ours = [pruned(rank) for rank in range(2)]
    batches = [[indices for indices, _ in loader] for _, loader in ours]
    assert len(batches[0]) == len(batches[1])
    seen = np.concatenate([indices for of_rank in batches for indices in of_rank])
    real = seen[seen >= 0]
    assert sorted(real) == ours[0][0].selection.indices.tolist()
    assert len(real) == len(set(real)) == 59
    for (pruner, _), of_rank in zip(ours, batches, strict=True):
        indices = np.concatenate(of_rank)
        assert not pruner.weights(indices)[torch.from_numpy(indices < 0)].any()


def test_a_share_is_not_shared_out_again():
    naive = shares(lambda rank: DataLoader(range(100), 4, sampler=range(rank, 100, 2)))
    assert len({i for of_rank in naive for batch in of_rank for i in batch}) < 70
    both = [pruned(rank) for rank in range(2)]
    trained = {int(i) for _, loader in both for indices, _ in loader for i in indices if i >= 0}
    assert trained == set(both[0][0].selection.indices.tolist())


def test_a_fresh_loader_does_not_put_the_epoch_back():
    naive = Selections(FOUR)
    naive.set_epoch(2)  # as restored from a checkpoint
    loader = prepare_data_loader(DataLoader(range(40), 4, sampler=naive), put_on_device=False)
    assert len(list(loader)) == FOUR[0] / 4, "Accelerate counts from 0"
    pruner, loader = pruned(0)
    loader = prepare_data_loader(loader, num_processes=1, process_index=0, put_on_device=False)
    indices = [i for indices, _ in loader for i in indices]
    assert pruner.epoch == 1
    assert len(indices) == 30


PROGRAM = """
    import sys

    import torch
    import torch.distributed as dist
    from accelerate import Accelerator
    from infobatch import DynamicPruner
    from infobatch.integrations.accelerate import pruned_loader
    from helpers import Numbers

    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


    def rates(prepared):
        accelerator = Accelerator(cpu=True)
        pruner = DynamicPruner(Numbers(32), num_epochs=1)
        loader = pruned_loader(accelerator, pruner, 4)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 1.0)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, pruner.full_steps)
        if prepared:
            optimizer, schedule = accelerator.prepare(optimizer, schedule)
        else:
            optimizer, schedule = accelerator.prepare(optimizer), pruner.lr_scheduler(schedule)
        found = []
        for _ in pruner.epochs():
            for indices, batch in loader:
                pruner.record(batch, indices)
                optimizer.step()
                schedule.step()
                found.append(schedule.get_last_lr()[0])
        return found


    try:
        torch.save([rates(True), rates(False)], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


def test_a_prepared_schedule_is_stepped_for_each_process(tmp_path):
    for naive, ours in launch(PROGRAM, 2, tmp_path):
        assert naive == pytest.approx([0.5, 0, 0, 0]), "at its end half-way"
        assert ours == pytest.approx([0.75, 0.5, 0.25, 0])


# -- torchdata and torch -------------------------------------------------------------------------------


class Drawing(Selections):
    """Draws an epoch's selection when it is iterated."""

    num_draws = 0

    def __iter__(self):
        self.num_draws += 1
        self.epoch = self.num_draws - 1
        return super().__iter__()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_has_one_selection_in_a_stateful_loader(workers, monkeypatch):
    naive = Drawing([40] * 20)
    loader = StatefulDataLoader(Numbers(40), 4, sampler=naive, num_workers=workers)
    for _ in range(4):
        loader.state_dict()
        list(loader)
    assert naive.num_draws == (8 if workers else 4)
    pruner = DynamicPruner(Numbers(40), 4, policy=RandomPruning(0.5), delta=1)
    draws, make_epoch = [], pruner._store.make_epoch
    monkeypatch.setattr(pruner._store, "make_epoch", lambda *args: draws.append(1) or make_epoch(*args))
    loader = pruner.loader(4, loader_class=StatefulDataLoader, num_workers=workers)
    for _ in pruner.epochs():
        loader.state_dict()
        trained = set()
        for indices, batch in loader:
            pruner.update(batch, indices)
            trained |= set(indices.tolist())
        assert sorted(trained) == pruner.selection.indices.tolist()
    assert len(draws) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_tells_its_length_before_it_is_iterated(workers):
    naive = Drawing(FOUR)
    loader = DataLoader(Numbers(40), 4, sampler=naive, num_workers=workers)
    told = []
    for _ in range(4):
        told.append(len(loader))
        list(loader)
    assert told != [size / 4 for size in FOUR], "the last epoch's"
    pruner = DynamicPruner(Numbers(40), 4, policy=RandomPruning(0.5), delta=1)
    loader = pruner.loader(4, num_workers=workers)
    for _ in pruner.epochs():
        told = len(loader)
        iterator = iter(loader)
        assert len(loader) == told == -(-pruner.selection.num_selected // 4)
        batches = list(iterator)
        assert len(batches) == told
        for indices, batch in batches:
            pruner.update(batch, indices)
