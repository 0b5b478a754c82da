"""Lightning with pruning: the stock Trainer's numbers where nothing is pruned, else a plain loop's."""

import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from infobatch import DynamicPruner, InfoBatch, NoPruning

pytest.importorskip("lightning")

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import FullOrder, parameters

from infobatch.integrations.lightning import PruningCallback, check_version

pytestmark = [
    pytest.mark.integrations,
    # Lightning's advice on speed, and what PyTorch says of how Lightning uses it.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*GPU available but not used"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
    # Runs are resumed without the callback that saved them.
    pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path"),
]

SIZE, BATCH = 50, 4
VARYING = {"policy": InfoBatch(0.9), "delta": 1}


def points(size=SIZE):
    generator = torch.Generator().manual_seed(5)
    return TensorDataset(
        torch.randn(size, 6, generator=generator), torch.randint(3, (size,), generator=generator)
    )


def new_layers():
    torch.manual_seed(2)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))


class Module(pl.LightningModule):
    """A module as a user writes it, which notes what it is given."""

    interval = "step"

    def __init__(self):
        super().__init__()
        self.layers = new_layers()
        self.seen, self.rates, self.last, self.lengths, self.updates = [], [], [], [], []

    def training_step(self, batch, batch_idx):
        samples, (inputs, labels) = batch
        self.seen.append((self.trainer.current_epoch, samples.tolist()))
        losses = F.cross_entropy(self.layers(inputs), labels, reduction="none")
        loss = self.pruner.update(losses, samples)
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
        return [samples for _, samples in self.seen]

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


class Stock(Module):
    """Without the library: indices come with the batches, the loss is a plain mean."""

    def training_step(self, batch, batch_idx):
        inputs, labels = batch
        self.seen.append((self.trainer.current_epoch, None))
        return F.cross_entropy(self.layers(inputs), labels)

    def schedule(self, optimizer):
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 10_000)


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


def stock_fit(module=None, **options):
    """Lightning without the library, on the order that an unpruned epoch has."""
    module, trainer = module or Stock(), new_trainer(**options)
    trainer.fit(module, DataLoader(points(), BATCH, sampler=FullOrder(SIZE, 0)))
    return module


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate_grad_batches": 3},
        {"gradient_clip_val": 0.3, "accumulate_grad_batches": 2},
        {"max_steps": 30, "max_epochs": None},
        {"max_steps": 14, "max_epochs": 2, "accumulate_grad_batches": 2},
        {"max_steps": 9, "max_epochs": None, "accumulate_grad_batches": 3},
        {"limit_train_batches": 5},
        {"fast_dev_run": 7},
        {"precision": "bf16-mixed"},
        {"reload_dataloaders_every_n_epochs": 1},
    ],
    ids=str,
)
def test_nothing_pruned_is_stock_lightning(options):
    class Ours(Module):
        interval = "epoch"

        def schedule(self, optimizer):
            self.made = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
            return self.pruner.lr_scheduler(self.made, self.trainer.max_epochs)

    class Theirs(Stock):
        interval = "epoch"

        def schedule(self, optimizer):
            return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    if "limit_train_batches" in options:  # progress is that of whole epochs
        Ours.schedule = Theirs.schedule
    theirs = stock_fit(Theirs(), **options)
    ours, _, trainer = fit({"policy": NoPruning()}, Ours(), **options)
    assert ours.batch_counts == theirs.batch_counts
    assert ours.updates == theirs.updates
    if "max_steps" not in options:  # which end an epoch of ours, not one of Lightning's
        assert ours.last == theirs.last
    assert trainer.global_step == theirs.trainer.global_step
    assert ours.rates == theirs.rates
    assert (parameters(ours) - parameters(theirs)).abs().max() < 1e-6


def train_plainly(num_accumulated=1, clip=None, **pruning):
    """What the Trainer should do, as a loop; layers, pruner, learning rates, batches."""
    pruner, layers = DynamicPruner(points(), **pruning), new_layers()
    loader = pruner.loader(BATCH)
    optimizer = torch.optim.SGD(layers.parameters(), 0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, pruner.full_steps)
    schedule = pruner.lr_scheduler(schedule)
    rates, seen = [], []
    for _ in pruner.epochs():
        batches = list(loader)
        for step, (samples, (inputs, labels)) in enumerate(batches, 1):
            losses = F.cross_entropy(layers(inputs), labels, reduction="none")
            (pruner.update(losses, samples) / num_accumulated).backward()
            seen.append(samples.tolist())
            if step % num_accumulated == 0 or step == len(batches):
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_(layers.parameters(), clip)
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
    return layers, pruner, rates, seen


def check_same(module, pruner, expected):
    layers, plain, rates, seen = expected
    assert module.batches == seen
    assert module.rates == rates
    assert pruner.history == plain.history
    assert torch.equal(pruner.selection.weights, plain.selection.weights)
    assert (parameters(module) - parameters(layers)).abs().max() < 1e-6
    assert module.optimizers().param_groups[0]["lr"] == 0
    assert 0 < pruner.report().saved < 1


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("clip", [None, 0.3])
def test_pruned_training_is_a_plain_loops(accumulated, workers, clip):
    options = {"accumulate_grad_batches": accumulated, "gradient_clip_val": clip}
    module, callback, _ = fit(workers=workers, **options)
    check_same(module, callback.pruner, train_plainly(accumulated, clip, num_epochs=4, **VARYING))


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


def test_manual_optimization():
    module, callback, _ = fit(module=Manual())
    check_same(module, callback.pruner, train_plainly(num_epochs=4, **VARYING))


@pytest.mark.parametrize(("max_epochs", "ends_by_steps"), [(None, True), (3, False), (9, True)])
def test_max_steps_counts_steps_of_full_data(max_epochs, ends_by_steps):
    pruning = {**VARYING, "delta": 0.5}
    module, callback, trainer = fit(pruning, max_epochs=max_epochs, max_steps=45)
    length = {"max_steps": 45} if ends_by_steps else {"num_epochs": 3}
    check_same(module, callback.pruner, train_plainly(**length, **pruning))
    assert trainer.global_step == len(module.seen) < 45


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_is_the_uninterrupted_one(accumulated, workers, tmp_path):
    steps = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    ends = ModelCheckpoint(tmp_path, "end-{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    options = {"accumulate_grad_batches": accumulated, "workers": workers}
    whole, callback, trainer = fit(callbacks=[steps, ends], **options)
    first, second = (whole.updates[sum(whole.batch_counts[: i + 1]) - 1] for i in range(2))
    last = trainer.global_step
    moments = {f"step={step}": step for step in (2, first, first + 1, second, last - 1, last)}
    moments |= {"end-epoch=0": first, "end-epoch=1": second, "end-epoch=3": last}
    for name, step in moments.items():
        path = tmp_path / f"{name}.ckpt"
        torch.load(path, weights_only=True)
        resumed, resumed_callback, resumed_trainer = fit(resume=str(path), **options)
        assert resumed.seen == whole.seen[whole.updates.index(step) + 1 :], name
        assert resumed.rates == whole.rates[step:], name
        assert resumed_trainer.global_step == last
        assert resumed_trainer.current_epoch == 4
        assert torch.equal(parameters(resumed), parameters(whole)), name
        assert resumed.optimizers().param_groups[0]["lr"] == 0
        for column in ("last_loss", "visits"):
            expected = callback.pruner.scores[column]
            assert torch.equal(resumed_callback.pruner.scores[column], expected), name
        assert resumed_callback.pruner.history == callback.pruner.history


@pytest.mark.parametrize("interval", [1.0, 4])
def test_a_run_saved_at_a_validation_is_resumed(interval, tmp_path):
    saving = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, save_on_train_epoch_end=False)

    def validated(callbacks=(), resume=None):
        module, callback = Validated(), PruningCallback(**VARYING)
        trainer = new_trainer(callbacks=[callback, *callbacks], val_check_interval=interval)
        loader = callback.loader(points(), BATCH)
        trainer.fit(module, loader, DataLoader(points(), BATCH), ckpt_path=resume)
        return module

    whole = validated([saving])
    paths = sorted(tmp_path.glob("*.ckpt"))
    assert len(paths) >= 4
    for path in paths:
        step = int(path.stem.removeprefix("step="))
        resumed = validated(resume=str(path))
        assert resumed.seen == whole.seen[step:], path
        assert resumed.rates == whole.rates[step:], path
        assert torch.equal(parameters(resumed), parameters(whole)), path


def test_a_run_cut_short_by_max_steps_is_resumed(tmp_path):
    saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=5, save_top_k=-1)
    options = {"max_epochs": None, "max_steps": 45}
    whole, _, _ = fit(callbacks=[saving], **options)
    resumed, _, _ = fit(resume=str(tmp_path / "step=15.ckpt"), **options)
    assert resumed.seen == whole.seen[15:]
    assert torch.equal(parameters(resumed), parameters(whole))


def test_another_batch_size_goes_on_within_the_epoch(tmp_path):
    saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    fit(callbacks=[saving])
    module, callback = Module(), PruningCallback(**VARYING)
    loader = callback.loader(points(), 5)
    new_trainer(callbacks=[callback]).fit(module, loader, ckpt_path=str(tmp_path / "step=4.ckpt"))
    trained = [index for epoch, batch in module.seen if epoch == 0 for index in batch]
    assert len(set(trained)) == len(trained) == SIZE - 16
    assert module.batch_counts[0] == 7


def test_a_stock_loader_trains_the_epoch_again_when_resumed(tmp_path):
    """Why the loader skips what was recorded: Lightning skips nothing."""
    saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    stock_fit(callbacks=[saving], max_epochs=1)
    naive, trainer = Stock(), new_trainer(max_epochs=1)
    with pytest.warns(UserWarning, match="your dataloader is not resumable"):
        trainer.fit(
            naive,
            DataLoader(points(), BATCH, sampler=FullOrder(SIZE, 0)),
            ckpt_path=str(tmp_path / "step=4.ckpt"),
        )
    assert len(naive.seen) == 9  # the first nine batches once more, the last four never


def test_validation_changes_nothing_and_comes_when_asked_for():
    expected, _, _ = fit()
    held_out = DataLoader(points(), BATCH)
    counts = expected.batch_counts
    for interval, every, num_checks in [
        (1.0, 1, 4),
        (5, 1, sum(count // 5 for count in counts)),
        (5, None, sum(counts) // 5),
        (1.0, 2, 2),
    ]:
        module, callback = Validated(), PruningCallback(**VARYING)
        trainer = new_trainer(
            callbacks=[callback], val_check_interval=interval, check_val_every_n_epoch=every
        )
        trainer.fit(module, callback.loader(points(), BATCH), held_out)
        assert module.checked == num_checks
        assert module.seen == expected.seen
        assert torch.equal(parameters(module), parameters(expected))
        trainer.validate(module, held_out, verbose=False)
        assert callback.pruner.report().num_recorded == sum(map(len, module.batches))


def test_limited_epochs_are_no_longer_than_they_are():
    module, _, _ = fit({**VARYING, "target": [0, 40, 0, 0]}, limit_train_batches=5)
    assert module.batch_counts == [5, 3, 5, 5]
    assert [i for i, is_last in enumerate(module.last, 1) if is_last] == [5, 8, 13, 18]


def test_a_development_run_prunes_nothing():
    module, callback, _ = fit({**VARYING, "target": [0, 40, 0, 0]}, fast_dev_run=3)
    assert module.batch_counts == [3]
    assert callback.pruner.report().saved == 0


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


def test_fitting_again_goes_on_or_begins_anew():
    module, callback, trainer = fit(max_epochs=2)
    trainer.fit_loop.max_epochs = 4
    trainer.fit(module, callback.loader(points(), BATCH))
    assert module.batch_counts == fit(max_epochs=2)[0].batch_counts + module.batch_counts[2:]
    assert callback.pruner.scores["visits"].max() == 4
    first = callback.pruner
    again = Module()
    new_trainer(callbacks=[callback]).fit(again, callback.loader(points(), BATCH))
    assert callback.pruner is not first
    assert again.seen == fit()[0].seen


def test_averaged_weights_share_the_pruner():
    averaging = pytest.importorskip("lightning.pytorch.callbacks.weight_averaging")

    class Large(TensorDataset):
        def __deepcopy__(self, memo):
            raise AssertionError("the dataset was copied")

    data = Large(*points().tensors)
    module, callback, _ = fit(callbacks=[averaging.WeightAveraging()], data=data)
    assert module.seen == fit()[0].seen
    assert copy.deepcopy(module).pruner is callback.pruner


# -- What is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overfit_batches": 2}, "overfit_batches is 2: an epoch here is another selection.*Subset"),
        ({"limit_train_batches": 0.5}, "limit_train_batches is 0.5: how many.*give a number of batches"),
        ({"val_check_interval": 0.5}, "val_check_interval is 0.5: how many.*give a number of batches"),
        ({"max_epochs": -1}, "max_epochs and max_steps are -1: a run without end.*give max_epochs"),
    ],
)
def test_arguments_that_do_not_go_together_with_pruning(options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options)


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        ({"num_epochs": 3}, "num_epochs=3, which is the Trainer's; leave it out"),
        ({"rank": 0}, "rank=0, which is the Trainer's"),
        ({"layout": object()}, r"a layout: Lightning's checkpoints hold .* the first process alone"),
    ],
)
def test_options_that_are_the_trainers(pruning, message):
    with pytest.raises(ValueError, match=message):
        PruningCallback(**pruning)


@pytest.mark.filterwarnings("ignore:You are using the .dataloader_iter. step flavor")
def test_modules_that_do_not_go_together_with_pruning():
    with pytest.raises(ValueError, match=r"max_steps is 9 with manual optimization.*give max_epochs"):
        fit(module=Manual(), max_steps=9)

    class Iterating(Module):
        def training_step(self, dataloader_iter):
            pass

    with pytest.raises(ValueError, match=r"takes dataloader_iter.*take batch"):
        fit(module=Iterating())
    module = Module()
    module.pruner = DynamicPruner(points(), 3)
    with pytest.raises(ValueError, match=r"pruner of its own, a DynamicPruner.*leave it out"):
        fit(module=module)


def test_forgetting_the_callback():
    class Naive(Module):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    with pytest.raises(RuntimeError, match=r"that the Trainer does not have.*callbacks="):
        new_trainer().fit(Naive(), PruningCallback().loader(points(), BATCH))


def test_forgetting_the_loader():
    callback = PruningCallback()
    with pytest.raises(ValueError, match=r"PruningCallback has no loader; make it with its loader"):
        new_trainer(callbacks=[callback]).fit(Module(), DataLoader(points(), BATCH))
    callback.loader(points(), BATCH)
    with pytest.raises(ValueError, match=r"fits on a DataLoader that is not.*alone and as it is"):
        new_trainer(callbacks=[callback]).fit(Module(), DataLoader(points(), BATCH))
    wrapped = {"a": callback.loader(points(), BATCH), "b": DataLoader(points(), BATCH)}
    with pytest.raises(ValueError, match=r"fits on a dict that is not.*alone and as it is"):
        new_trainer(callbacks=[callback]).fit(Module(), wrapped)


@pytest.mark.parametrize("kind", [Module, Manual])
def test_forgetting_the_line_in_training_step(kind):
    class Forgetful(kind):
        def training_step(self, batch, batch_idx):
            samples, (inputs, labels) = batch
            self.seen.append((0, samples.tolist()))
            loss = F.cross_entropy(self.layers(inputs), labels)
            return loss if self.automatic_optimization else None

    module = Forgetful()
    with pytest.raises(RuntimeError, match=r"has no recorded loss.*self.pruner.update\(losses, samples"):
        fit(module=module, max_epochs=1)
    assert len(module.seen) == (1 if kind is Module else 13)


@pytest.mark.filterwarnings("ignore:.training_step. returned .None.")
def test_a_training_step_may_skip_batches():
    class Skipping(Module):
        def training_step(self, batch, batch_idx):
            return None if batch_idx < 2 else super().training_step(batch, batch_idx)

    module, _, _ = fit(module=Skipping())
    assert module.batch_counts[0] == 11


def test_a_schedule_of_steps_stepped_by_epochs_is_refused():
    class PerEpoch(Module):
        interval = "epoch"

    with pytest.raises(ValueError, match=r"has 52 steps and interval='epoch'.*\"interval\": \"step\""):
        fit(module=PerEpoch())


def test_a_schedule_that_pruning_would_cut_short_is_warned_of():
    class Unwrapped(Module):
        def schedule(self, optimizer):
            return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, self.pruner.full_steps)

    module = Unwrapped()
    with pytest.warns(UserWarning, match=r"LinearLR counts steps, .*self.pruner.lr_scheduler"):
        fit(module=module)
    assert module.optimizers().param_groups[0]["lr"] > 0


def test_a_checkpoint_without_a_pruner_is_refused(tmp_path):
    stock_fit(callbacks=[ModelCheckpoint(tmp_path, "stock")], max_epochs=1)
    with pytest.raises(ValueError, match=r"no state of a PruningCallback.*saved without pruning"):
        fit(resume=str(tmp_path / "stock.ckpt"))


def test_a_loader_that_would_skip_twice_and_streams_are_refused():
    with pytest.raises(ValueError, match=r"loader_class is DataLoader; leave it out"):
        PruningCallback().loader(points(), loader_class=DataLoader)

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(points())

    with pytest.raises(TypeError, match="not a map-style dataset"):
        PruningCallback().loader(Stream())


def test_there_is_no_pruner_before_the_fit():
    with pytest.raises(RuntimeError, match=r"no pruner yet: it is made when trainer.fit begins"):
        _ = PruningCallback().pruner


@pytest.mark.parametrize("version", ["1.9.5", "2.4.0", "3.0.0rc1"])
def test_other_versions_are_refused(version):
    with pytest.raises(ImportError, match=f"lightning is {version}; .* with 2.5 to 2.6"):
        check_version(version)


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.stdout + done.stderr


def test_without_lightning_the_extra_is_named():
    missing = "import sys; sys.modules |= dict.fromkeys(['lightning.pytorch', 'pytorch_lightning']); "
    said = run(missing + "import infobatch.integrations.lightning")
    assert "pip install 'infobatch[lightning]'" in said


def test_the_package_in_use_is_taken():
    assert PruningCallback.__mro__[1] is pl.Callback
    pytest.importorskip("pytorch_lightning")
    said = run("""
import pytorch_lightning as pl
import torch
from infobatch.integrations.lightning import PruningCallback

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        samples, values = batch
        return self.pruner.update(self.layer(values[:, None]).flatten(), samples)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

callback = PruningCallback()
assert isinstance(callback, pl.Callback)
options = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar"], False)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", callbacks=[callback], **options)
trainer.fit(Module(), callback.loader(torch.arange(8.0), 4))
print(callback.pruner.report().num_recorded, "recorded")
""")
    assert "16 recorded" in said
