"""What Lightning offers that does not go together with pruning; each with its remedy."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from infobatch.integrations.lightning.loader import PrunedLoader
from infobatch.integrations.lightning.pruner import LightningPruner
from infobatch.integrations.refusals import (
    Refusal,
    check_run_options,
    check_settings,
    no_pruner_in,
)
from infobatch.lr import ProgressScheduler, ends_of
from infobatch.pruner import DynamicPruner
from infobatch.user_warnings import warn_user


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of a pruner that are the Trainer's, or that it cannot serve."""
    check_run_options(
        options, "Lightning's Trainer", "PruningCallback", "its own arguments and processes"
    )


def check_begins_next(pruner: DynamicPruner, epoch: int) -> None:
    """Refuse to begin an epoch while another is not through, which a longer run would have to end."""
    if pruner.epoch < epoch and not pruner.current.finished:
        raise ValueError(
            f"the last fit ended within epoch {pruner.epoch}, as its max_steps said, and this Trainer "
            f"would now begin epoch {epoch}; to go on save a checkpoint, and fit by a new Trainer on "
            "its ckpt_path"
        )


def check_loader(loader: PrunedLoader | None) -> PrunedLoader:
    """The callback's loader; refuses to fit without one."""
    if loader is None:
        raise ValueError(
            "PruningCallback has no loader; make it with its loader(dataset, batch_size) before "
            "trainer.fit or in the DataModule's setup, and fit on that"
        )
    return loader


def check_same_loader(used: Any, made: PrunedLoader | None) -> None:
    """Refuse to fit on anything but the callback's loader."""
    if used is not made:
        raise ValueError(
            f"the Trainer fits on a {type(used).__name__} that is not the last loader of its "
            "PruningCallback, so that samples would not be the selected ones; fit on what its "
            "loader(dataset, batch_size) gives, alone and as it is"
        )


def check_loader_options(options: Mapping[str, Any]) -> None:
    """Refuse another class of loader."""
    if "loader_class" in options:
        raise ValueError(
            f"loader_class is {options['loader_class'].__name__}; leave it out: batches that were "
            "trained before a run was resumed are skipped already"
        )


def check_trainer(trainer: Any, pl_module: Any) -> None:
    """Refuse what would train something else than asked for."""
    check_settings(trainer, _REFUSED)
    if trainer.max_epochs < 0 and trainer.max_steps < 0:
        raise ValueError(
            "max_epochs and max_steps are -1: a run without end has no last epochs, in which all data "
            "is used again; give max_epochs"
        )
    if trainer.max_steps >= 0 and not (pl_module.automatic_optimization or trainer.fast_dev_run):
        raise ValueError(
            f"max_steps is {trainer.max_steps} with manual optimization, where it is the module that "
            "says how many steps a batch takes; give max_epochs"
        )
    if "dataloader_iter" in inspect.signature(pl_module.training_step).parameters:
        raise ValueError(
            "training_step takes dataloader_iter, with which Lightning cannot tell the last batch of an "
            "epoch; take batch"
        )
    if not isinstance(getattr(pl_module, "pruner", None), LightningPruner | None):
        raise ValueError(
            f"the module has a pruner of its own, a {type(pl_module.pruner).__name__}; PruningCallback "
            "makes it, with the Trainer's length and processes, so leave it out"
        )


def _is_share(limit: Any) -> bool:
    """Whether a limit is a share of an epoch's batches, and neither all nor none of them."""
    return isinstance(limit, float) and 0 < limit < 1


_UNKNOWN_LENGTH = "how many batches an epoch has is known only when it begins"
_REFUSED = {
    "overfit_batches": Refusal(
        lambda value: value > 0,
        "an epoch here is another selection in another order, never the same few batches",
        "give the loader a torch.utils.data.Subset and the policy NoPruning()",
    ),
    "limit_train_batches": Refusal(
        _is_share,
        _UNKNOWN_LENGTH,
        "give a number of batches, or the loader a torch.utils.data.Subset",
    ),
    "val_check_interval": Refusal(_is_share, _UNKNOWN_LENGTH, "give a number of batches"),
}


def check_schedules(configs: Any, pruner: DynamicPruner, num_accumulated: int) -> None:
    """Refuse a schedule of steps that moves by epochs; warn of one that will not come to its end.

    Where batches shrink there are all the steps of full data to count, as updates of the parameters.
    """
    for config in configs:
        schedule = config.scheduler
        if isinstance(schedule, ProgressScheduler):
            if config.interval == "epoch" and schedule.total_steps > pruner.num_epochs:
                raise ValueError(
                    f"the schedule has {schedule.total_steps} steps and interval='epoch', so that it "
                    f"would change only {pruner.num_epochs} times; in configure_optimizers give "
                    '{"scheduler": ..., "interval": "step"}'
                )
        elif config.interval == "epoch" or config.reduce_on_plateau:
            continue
        elif pruner.plan.shrink is None:
            warn_user(
                f"{type(schedule).__name__} counts steps, of which pruning leaves some out, so that it "
                "may not come to its end; wrap it: self.pruner.lr_scheduler(schedule)"
            )
        elif num_accumulated > 1 and pruner.full_steps in ends_of(schedule):
            warn_user(
                f"{type(schedule).__name__} ends after {pruner.full_steps:,} steps, the run's batches, "
                f"and Lightning steps it once for {num_accumulated} of them, so that it does not come "
                "to its end; wrap it: self.pruner.lr_scheduler(schedule)"
            )


def check_recorded(pruner: DynamicPruner) -> None:
    """Refuse to go on from batches whose losses were not recorded."""
    if pruner.current.done == 0 and pruner.current.num_trained:
        raise RuntimeError(
            f"epoch {pruner.epoch} has no recorded loss, so nothing could ever be pruned; training_step "
            "must take indices, batch = batch, compute one loss for each sample, and return "
            "self.pruner.update(losses, indices)"
        )


def check_checkpoint(checkpoint: Mapping[str, Any], state_key: str) -> None:
    """Refuse to resume a run that was not pruned."""
    if not checkpoint["callbacks"].get(state_key):
        raise ValueError(
            no_pruner_in(
                "the checkpoint has no state of a PruningCallback",
                "without pruning",
                "Train from its weights instead (load_from_checkpoint), without ckpt_path",
            )
        )
