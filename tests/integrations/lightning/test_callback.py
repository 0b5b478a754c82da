"""Lightning with pruning: the stock Trainer's numbers where nothing is pruned, else a plain loop's."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from helpers.language import parameters
from helpers.points import SIZE, new_layers, points
from infobatch import DynamicPruner, NoPruning, RandomPruning

pytest.importorskip("lightning")

from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging

from helpers.lightning import (
    BATCH,
    MARKS,
    SMALLER,
    VARYING,
    Manual,
    Module,
    Stock,
    Validated,
    fit,
    new_trainer,
    stock_fit,
)
from infobatch.integrations.lightning import PruningCallback

pytestmark = MARKS


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate_grad_batches": 3},
        {"gradient_clip_val": 0.3, "accumulate_grad_batches": 2},
        {"max_steps": 30, "max_epochs": None},
        {"max_steps": 14, "max_epochs": 2, "accumulate_grad_batches": 2},
        {"max_steps": 9, "max_epochs": None, "accumulate_grad_batches": 3},
        {"max_steps": 20, "max_epochs": -1, "limit_train_batches": 5},
        {"max_steps": 18, "max_epochs": 10, "limit_train_batches": 5},
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
        for step, (indices, (inputs, labels)) in enumerate(batches, 1):
            losses = F.cross_entropy(layers(inputs), labels, reduction="none")
            (pruner.update(losses, indices) / num_accumulated).backward()
            seen.append(indices.tolist())
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


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_with_smaller_batches_a_plain_schedule_is_right(accumulated, workers):
    class Unwrapped(Module):
        def schedule(self, optimizer):
            num_updates = 4 * -(-13 // accumulated)
            return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, num_updates)

    options = {"accumulate_grad_batches": accumulated, "workers": workers}
    module, callback, trainer = fit(SMALLER, Unwrapped(), **options)
    layers, plain, _, seen = train_plainly(accumulated, num_epochs=4, **SMALLER)
    assert module.batches == seen
    kept = [[counts.num_recorded for counts in pruner.history] for pruner in (callback.pruner, plain)]
    assert kept[0] == kept[1]
    assert trainer.global_step == 4 * -(-13 // accumulated)
    assert module.batch_counts == [13] * 4
    assert module.last == ([False] * 12 + [True]) * 4
    assert module.optimizers().param_groups[0]["lr"] == 0
    stock = stock_fit(Stock(), max_epochs=4, **{"accumulate_grad_batches": accumulated})
    assert stock.updates == module.updates
    if accumulated == 1:  # progress counts by samples, a schedule by updates
        assert (parameters(module) - parameters(layers)).abs().max() < 1e-6


@pytest.mark.parametrize("length", [{"max_epochs": None, "max_steps": 45}, {"max_epochs": 3}], ids=str)
def test_smaller_batches_have_the_steps_of_any_length(length):
    module, callback, trainer = fit(SMALLER, **length)
    assert trainer.global_step == callback.pruner.full_steps == length.get("max_steps", 39)
    assert module.optimizers().param_groups[0]["lr"] == 0


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


def test_a_fit_that_trains_no_batches_ends():
    _, _, trainer = fit(max_steps=20, max_epochs=-1, limit_train_batches=0)
    assert trainer.global_step == 0


@pytest.mark.parametrize("accumulated", [{0: 1, 1: 5}, {0: 5, 2: 1}], ids=str)
def test_max_steps_are_those_of_batches_that_are_accumulated_by_epochs(accumulated):
    options = {"max_steps": 20, "max_epochs": -1}
    theirs = stock_fit(callbacks=[GradientAccumulationScheduler(accumulated)], **options)
    callbacks = [GradientAccumulationScheduler(accumulated)]
    ours, _, trainer = fit({"policy": NoPruning()}, callbacks=callbacks, **options)
    assert ours.batch_counts == theirs.batch_counts
    assert trainer.global_step == theirs.trainer.global_step == 20


@pytest.mark.parametrize("pruning", [{"policy": NoPruning()}, VARYING, SMALLER])
def test_a_fit_that_was_stopped_within_an_epoch_goes_on_with_the_next_as_stock_lightning(pruning):
    class Stopped:
        def training_step(self, batch, batch_idx):
            self.trainer.should_stop |= self.trainer.global_step == 16
            return super().training_step(batch, batch_idx)

    class Ours(Stopped, Module):
        pass

    class Theirs(Stopped, Stock):
        pass

    theirs = stock_fit(Theirs())
    theirs.trainer.should_stop = False
    theirs.trainer.fit(theirs, theirs.trainer.train_dataloader)
    module, callback, trainer = fit(pruning, Ours())
    stopped = trainer.global_step
    trainer.should_stop = False
    trainer.fit(module, callback.loader(points(), BATCH))
    epochs = [epoch for epoch, *_ in module.seen]
    assert max(epochs) == 3
    assert trainer.current_epoch == theirs.trainer.current_epoch == 4
    if pruning is VARYING:
        assert trainer.global_step > stopped
    else:
        assert trainer.global_step == theirs.trainer.global_step


def test_more_steps_of_one_trainer_are_taken_where_an_epoch_begins():
    for steps in (26, 15):
        module, callback, trainer = fit({"policy": NoPruning()}, max_steps=steps, max_epochs=-1)
        trainer.fit_loop.epoch_loop.max_steps = 40
        loader = callback.loader(points(), BATCH)
        if steps == 26:
            trainer.fit(module, loader)
            assert trainer.global_step == 40
        else:
            with pytest.raises(ValueError, match=r"ended within epoch 1, as its max_steps said, .*path"):
                trainer.fit(module, loader)


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


class Normalized(Module):
    """A module with batch norm, whose statistics averaged weights measure anew after the last epoch."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.BatchNorm1d(6), self.layers)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_averaged_weights_measure_batch_norm_in_a_pass_of_their_own():
    average = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=2)
    pruning = {"policy": RandomPruning(0.4), "delta": 1}
    module, callback, trainer = fit(pruning, Normalized(), callbacks=[average])
    pruner = callback.pruner
    extra = [i for epoch, batch in module.seen if epoch == 4 for i in batch]
    assert trainer.current_epoch == 5
    assert sorted(extra) == list(range(SIZE)), "all samples, unpruned"
    assert int(module.layers[0].num_batches_tracked) == -(-SIZE // BATCH)
    assert pruner.progress == 1
    report = pruner.report()
    assert len(report.epochs) == 4
    assert report.num_recorded == len([i for epoch, batch in module.seen if epoch < 4 for i in batch])
