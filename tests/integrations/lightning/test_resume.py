"""Lightning with pruning, stopped and resumed."""

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader

pytest.importorskip("lightning")

from lightning.pytorch.callbacks import ModelCheckpoint

from helpers.language import FullOrder, parameters
from helpers.lightning import (
    BATCH,
    MARKS,
    SMALLER,
    VARYING,
    Module,
    Stock,
    Validated,
    fit,
    new_trainer,
    stock_fit,
)
from helpers.points import SIZE, points
from infobatch.integrations.lightning import PruningCallback

pytestmark = MARKS


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("pruning", [VARYING, SMALLER], ids=["steps", "batches"])
def test_a_resumed_run_is_the_uninterrupted_one(accumulated, workers, pruning, tmp_path):
    steps = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    ends = ModelCheckpoint(tmp_path, "end-{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    options = {"pruning": pruning, "accumulate_grad_batches": accumulated, "workers": workers}
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


@pytest.mark.parametrize("pruning", [VARYING, SMALLER], ids=["steps", "batches"])
@pytest.mark.parametrize("is_validated", [False, True])
def test_epochs_cut_short_by_a_limit_of_batches_are_over_when_resumed(pruning, is_validated, tmp_path):
    steps = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    at_end = {"save_on_train_epoch_end": not is_validated}  # else at the end of a validation
    ends = ModelCheckpoint(tmp_path, "end-{step}", save_top_k=-1, **at_end)

    def limited(callbacks=(), resume=None):
        module, callback = (Validated if is_validated else Module)(), PruningCallback(**pruning)
        trainer = new_trainer(callbacks=[callback, *callbacks], limit_train_batches=5)
        loader = callback.loader(points(), BATCH)
        validation = [DataLoader(points(), BATCH)] if is_validated else []
        trainer.fit(module, loader, *validation, ckpt_path=resume)
        return module, callback.pruner

    whole, pruner = limited([steps, ends])
    assert whole.batch_counts == [5] * 4
    for step in (3, 5, 6, 10, 20):
        for kind in ("", "end-") if step % 5 == 0 else ("",):
            path = tmp_path / f"{kind}step={step}.ckpt"
            resumed, resumed_pruner = limited(resume=str(path))
            assert resumed.seen == whole.seen[step:], path
            assert resumed.rates == whole.rates[step:], path
            assert torch.equal(parameters(resumed), parameters(whole)), path
            assert resumed_pruner.history == pruner.history, path


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


class Cosine(Module):
    """With its position before each update."""

    def schedule(self, optimizer):
        return self.pruner.lr_scheduler(CosineAnnealingLR(optimizer, self.pruner.full_steps))

    def on_train_batch_start(self, batch, batch_idx):
        self.__dict__.setdefault("begun", []).append(self.pruner.full_steps_done)


@pytest.mark.parametrize("name", ["step=9", "end-epoch=3"])
def test_a_longer_run_has_the_rate_of_its_position(name, tmp_path):
    steps = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=9, save_top_k=-1)
    ends = ModelCheckpoint(tmp_path, "end-{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    fit(module=Cosine(), callbacks=[steps, ends])
    resumed, _, _ = fit(module=Cosine(), resume=str(tmp_path / f"{name}.ckpt"), max_epochs=8)
    length = resumed.pruner.full_steps
    plain = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    schedule, rates = CosineAnnealingLR(plain, length), []
    for _ in range(length):
        rates += schedule.get_last_lr()
        plain.step()
        schedule.step()
    assert resumed.rates == pytest.approx([rates[step] for step in resumed.begun])
    assert resumed.rates[0] > 0.04


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


def test_a_checkpoint_without_a_pruner_is_refused(tmp_path):
    stock_fit(callbacks=[ModelCheckpoint(tmp_path, "stock")], max_epochs=1)
    with pytest.raises(ValueError, match=r"no state of a PruningCallback.*saved without pruning"):
        fit(resume=str(tmp_path / "stock.ckpt"))
