"""The loader of a fit: epochs of any length, samplers of one's own, data modules."""

import pytest
import torch
from torch.utils.data import DataLoader

from helpers.language import FullOrder
from helpers.points import SIZE, points
from infobatch import InfoBatch

pytest.importorskip("lightning")

import lightning.pytorch as pl

from helpers.lightning import BATCH, MARKS, VARYING, Module, Stock, fit, new_trainer
from infobatch.integrations.lightning import PruningCallback

pytestmark = MARKS

SIZES = {"policy": InfoBatch(0.9), "target": [240, 160, 240, 0]}  # 40, 60, 40, 100 batches of 4


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_of_any_length(accumulated, workers):
    class EpochSchedule(Module):
        interval = "epoch"

        def schedule(self, optimizer):
            self.steps = torch.optim.lr_scheduler.StepLR(optimizer, 1)
            return self.steps

    for kind in (Module, EpochSchedule):
        module, callback, trainer = fit(
            SIZES, kind(), workers, data=points(400), accumulate_grad_batches=accumulated
        )
        batches = [40, 60, 40, 100]
        assert module.batch_counts == module.lengths == batches
        assert [i for i, is_last in enumerate(module.last, 1) if is_last] == [40, 100, 140, 240]
        assert trainer.global_step == sum(-(-number // accumulated) for number in batches)
        if kind is Module:
            assert trainer.optimizers[0].param_groups[0]["lr"] == 0
            assert callback.pruner.progress == 1
        else:
            assert module.steps.last_epoch == 4


def test_a_loader_with_a_length_is_cut_short():
    """Why the loader has none: Lightning reads it once, before the first epoch."""

    class Lengths(FullOrder):
        def __len__(self):
            return [16, 24, 16, 40][self.epoch] * BATCH

        def __iter__(self):
            return iter(range(len(self)))

    naive = Stock()
    trainer = new_trainer()
    trainer.fit(naive, DataLoader(points(400), BATCH, sampler=Lengths(400, 0)))
    assert naive.batch_counts == [16, 16, 16, 16]


def test_limited_epochs_are_no_longer_than_they_are():
    module, _, _ = fit({**VARYING, "target": [0, 40, 0, 0]}, limit_train_batches=5)
    assert module.batch_counts == [5, 3, 5, 5]
    assert [i for i, is_last in enumerate(module.last, 1) if is_last] == [5, 8, 13, 18]


def test_own_samplers_and_options_of_the_loader():
    class Evens:
        def __iter__(self):
            return iter(range(0, SIZE, 2))

        def __len__(self):
            return SIZE // 2

    module, callback = Module(), PruningCallback(**VARYING)
    new_trainer(callbacks=[callback]).fit(module, callback.loader(points(), 4, sampler=Evens()))
    assert module.batch_counts[0] == 7
    assert module.last.index(True) == 6
    assert sum(module.last) == 4
    assert module.optimizers().param_groups[0]["lr"] == 0
    module, callback = Module(), PruningCallback(**VARYING)
    new_trainer(callbacks=[callback]).fit(module, callback.loader(points(), 4, drop_last=True))
    assert {len(batch) for batch in module.batches} == {4}


def test_a_data_module_makes_the_loader_in_setup():
    callback = PruningCallback(**VARYING)

    class Data(pl.LightningDataModule):
        def setup(self, stage):
            self.train = callback.loader(points(), BATCH)

        def train_dataloader(self):
            return self.train

    module = Module()
    new_trainer(callbacks=[callback]).fit(module, datamodule=Data())
    assert module.seen == fit()[0].seen


def test_a_loader_that_would_skip_twice_and_streams_are_refused():
    with pytest.raises(ValueError, match=r"loader_class is DataLoader; leave it out"):
        PruningCallback().loader(points(), loader_class=DataLoader)

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(points())

    with pytest.raises(TypeError, match="not a map-style dataset"):
        PruningCallback().loader(Stream())
