"""What Lightning offers that does not go together with pruning, and what is forgotten."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from helpers.points import points
from infobatch import DynamicPruner, NoPruning, Replicated

pytest.importorskip("lightning")

from helpers.lightning import BATCH, MARKS, SMALLER, Manual, Module, fit, new_trainer
from infobatch.integrations.lightning import PruningCallback

pytestmark = MARKS


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
        (
            {"num_epochs": 3},
            "is given num_epochs=3; Lightning's Trainer takes it from .* so leave it out",
        ),
        ({"rank": 0}, "is given rank=0; Lightning's Trainer takes it from"),
        (
            {"layout": object()},
            r"the layout <object.*>: checkpoints of Lightning's Trainer hold .* the first process alone",
        ),
    ],
)
def test_options_that_are_the_trainers(pruning, message):
    with pytest.raises(ValueError, match=message):
        PruningCallback(**pruning)


def test_what_is_no_option():
    with pytest.raises(TypeError, match=r"PruningCallback is given max_noise=2, which its policy takes"):
        PruningCallback(max_noise=2)


def test_replicated_scores_are_accepted():
    _, callback, _ = fit(pruning={"layout": Replicated(), "policy": NoPruning()}, max_epochs=2)
    assert callback.pruner.report().num_recorded == 2 * 50


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
            indices, (inputs, labels) = batch
            self.seen.append((0, indices.tolist()))
            loss = F.cross_entropy(self.layers(inputs), labels)
            return loss if self.automatic_optimization else None

    module = Forgetful()
    with pytest.raises(RuntimeError, match=r"has no recorded loss.*self.pruner.update\(losses, indices"):
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
    # With all steps of full data it comes to its end, unless it counts more than the updates.
    module = Unwrapped()
    fit(SMALLER, module=module)
    assert module.optimizers().param_groups[0]["lr"] == pytest.approx(0, abs=1e-6)
    module = Unwrapped()
    with pytest.warns(UserWarning, match=r"ends after 52 steps, .* for 4 of .*self.pruner.lr_sche"):
        fit(SMALLER, module=module, accumulate_grad_batches=4)
    assert module.optimizers().param_groups[0]["lr"] > 0.05
