"""What the tests of Lightning train: a module as a user writes it, and the stock one beside it."""

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from helpers.language import FullOrder
from helpers.points import SIZE, new_layers, points
from infobatch import InfoBatch
from infobatch.integrations.lightning import PruningCallback

MARKS = [
    pytest.mark.integrations,
    # Lightning's advice on speed, and what PyTorch says of how Lightning uses it.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*GPU available but not used"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
    # Runs are resumed without the callback that saved them.
    pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path"),
]

BATCH = 4
VARYING = {"policy": InfoBatch(0.9), "delta": 1}
SMALLER = {**VARYING, "shrink": "batches"}


class Module(pl.LightningModule):
    """A module as a user writes it, which notes what it is given."""

    interval = "step"

    def __init__(self):
        super().__init__()
        self.layers = new_layers()
        self.seen, self.rates, self.last, self.lengths, self.updates = [], [], [], [], []

    def training_step(self, batch, batch_idx):
        indices, (inputs, labels) = batch
        self.seen.append((self.trainer.current_epoch, indices.tolist()))
        losses = F.cross_entropy(self.layers(inputs), labels, reduction="none")
        loss = self.pruner.update(losses, indices)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
        schedule = self.schedule(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": self.interval},
        }

    def schedule(self, optimizer):
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, self.pruner.full_steps)
        return self.pruner.lr_scheduler(schedule)

    def on_train_epoch_start(self):
        self.lengths.append(self.trainer.num_training_batches)

    def on_before_optimizer_step(self, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.last.append(self.trainer.is_last_batch)
        self.updates.append(self.trainer.global_step)

    @property
    def batches(self):
        return [indices for _, indices in self.seen]

    @property
    def batch_counts(self):
        epochs = [epoch for epoch, _ in self.seen]
        return [epochs.count(epoch) for epoch in range(max(epochs) + 1)]


def new_trainer(folder=None, callbacks=(), **options):
    options = {
        "max_epochs": 4,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
        **options,
    }
    return pl.Trainer(callbacks=list(callbacks), **options)


def fit(pruning=VARYING, module=None, workers=0, callbacks=(), resume=None, data=None, **options):
    """A fit with pruning; the module, the callback and the trainer."""
    module, callback = module or Module(), PruningCallback(**pruning)
    trainer = new_trainer(callbacks=[callback, *callbacks], **options)
    loader = callback.loader(
        data or points(), BATCH, num_workers=workers, persistent_workers=workers > 0
    )
    trainer.fit(module, loader, ckpt_path=resume)
    return module, callback, trainer


class Stock(Module):
    """Without the library: indices come with the batches, the loss is a plain mean."""

    def training_step(self, batch, batch_idx):
        inputs, labels = batch
        self.seen.append((self.trainer.current_epoch, None))
        return F.cross_entropy(self.layers(inputs), labels)

    def schedule(self, optimizer):
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 10_000)


def stock_fit(module=None, **options):
    """Lightning without the library, on the order that an unpruned epoch has."""
    module, trainer = module or Stock(), new_trainer(**options)
    trainer.fit(module, DataLoader(points(), BATCH, sampler=FullOrder(SIZE, 0)))
    return module


class Validated(Module):
    checked = 0

    def validation_step(self, batch, batch_idx):
        inputs, labels = batch
        self.log("val_loss", F.cross_entropy(self.layers(inputs), labels))

    def on_validation_epoch_start(self):
        self.checked += not self.trainer.sanity_checking


class Manual(Module):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        self.lr_schedulers().step()

    def on_before_optimizer_step(self, optimizer):
        pass
