"""The callback: makes the pruner, tells Lightning each epoch's length, saves and loads the state."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from infobatch.batch_norm import batch_weights, is_weighed
from infobatch.integrations.lightning.installed import Callback, averages_weights
from infobatch.integrations.lightning.loader import PrunedLoader
from infobatch.integrations.lightning.pruner import LightningPruner, make_pruner
from infobatch.integrations.lightning.refusals import (
    check_begins_next,
    check_checkpoint,
    check_loader,
    check_loader_options,
    check_options,
    check_recorded,
    check_same_loader,
    check_schedules,
    check_trainer,
)
from infobatch.integrations.logging import TakesLoggers
from infobatch.journal import EpochLog
from infobatch.loading.dataset import IndexedDataset
from infobatch.pruner import DynamicPruner


class PruningCallback(TakesLoggers, Callback):
    """Prunes what a Trainer trains: give it as a callback, and fit on its :meth:`loader`.

    While fitting and after it the module has the pruner as ``self.pruner``, in ``configure_optimizers``
    too. ``training_step`` takes ``indices, batch`` and returns ``self.pruner.update(losses, indices)``.

    Args:
        **options: Options of :class:`DynamicPruner`, such as ``policy``, ``delta``, ``target`` and
            ``seed``. The run's length and the processes are the Trainer's. Its ``max_steps`` counts
            steps of full data; where pruning shrinks steps, the run ends after fewer.

    Raises:
        ValueError: For options that are the Trainer's or that its checkpoints cannot hold; when the fit
            begins, for settings of the Trainer that do not go together with pruning.
        TypeError: For what is no option.
    """

    state_key: str

    def __init__(self, **options: Any) -> None:
        check_options(options)
        self._options = options
        self._pruner: LightningPruner | None = None
        self._loader: PrunedLoader | None = None
        self._trainer: Any = None
        self._max_epochs: int | None = None  # as the Trainer was given them
        self._has_weighed_batch_norm = False
        self._batch_norm = ExitStack()  # open while it knows the weights of a batch

    @property
    def pruner(self) -> DynamicPruner:
        """The pruner of the current fit, or of the last one; RuntimeError before the first."""
        if self._pruner is None:
            raise RuntimeError(
                "there is no pruner here: it is made when trainer.fit begins, from the Trainer's length "
                "and processes. A strategy that starts processes (ddp_spawn, ddp_fork, ddp_notebook) "
                "has it in those: ask it within the fit, as in on_train_end"
            )
        return self._pruner

    def loader(self, dataset: Any, batch_size: int = 1, **options: Any) -> PrunedLoader:
        """What to fit on. Make it before ``trainer.fit``, or in a DataModule's ``setup``.

        Args:
            dataset: A map-style dataset.
            batch_size: Samples of a batch on each process.
            **options: Further options of :meth:`DynamicPruner.loader`, such as ``num_workers``, except
                ``loader_class``.

        Returns:
            The batches ``(indices, batch)`` of this rank's share of each epoch. The indices are int64
            (B,) on the host.

        Raises:
            ValueError: If ``loader_class`` is given.
            TypeError: If the dataset is not map-style.
        """
        check_loader_options(options)
        IndexedDataset(dataset)  # refuses what is not map-style
        self._loader = PrunedLoader(dataset, {"batch_size": batch_size, **options})
        return self._loader

    # -- What the Trainer calls --------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        loader = check_loader(self._loader)
        check_trainer(trainer, pl_module)
        pruner = make_pruner(trainer, loader, self._options)
        loader.attach(pruner, trainer)
        self._max_epochs, trainer.fit_loop.max_epochs = trainer.max_epochs, pruner.num_epochs
        before, epoch = self._pruner, trainer.current_epoch
        if epoch and before is not None:  # fitted again, for more epochs or after a stop
            if before.epoch < epoch < before.num_epochs:
                before.set_epoch(epoch)  # one that it stopped in is over for Lightning
            pruner.load_state_dict(before.state_dict())
            check_begins_next(pruner, epoch)
        self._pruner = pl_module.pruner = pruner
        self._trainer = trainer
        self._attach_loggers(pruner, self._log)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if pl_module.automatic_optimization:
            num_accumulated = trainer.accumulate_grad_batches
            check_schedules(trainer.lr_scheduler_configs, self.pruner, num_accumulated)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        check_same_loader(trainer.train_dataloader, self._loader)
        self._has_weighed_batch_norm = is_weighed(pl_module)
        batches = trainer.fit_loop.epoch_loop.batch_progress
        if batches.is_last_batch:
            # Resumed at an epoch's end, which Lightning tells by how many batches it had.
            trainer.fit_loop.max_batches = batches.current.ready

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        pruner = self.pruner
        if trainer.current_epoch == pruner.num_epochs and averages_weights(trainer):
            pruner.add_pass()  # for the batch norm of averaged weights, which is not trained
        else:
            pruner.set_epoch(max(trainer.current_epoch, pruner.epoch))  # it may be resumed at its end
        if pruner.current.done == 0:
            self._set_length(0)  # for progress bars, which look now

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        assert self._loader is not None
        if self._has_weighed_batch_norm:
            weights = self.pruner.weights(batch[0])
            self._batch_norm.enter_context(batch_weights(pl_module, weights))
        batches = trainer.fit_loop.epoch_loop.batch_progress
        if self._loader.begins:
            self._loader.begins = False
            self._set_length(batches.current.ready - 1)
        if batches.current.ready == trainer.fit_loop.max_batches:
            batches.is_last_batch = True  # not noticed where limit_train_batches is higher

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batch_norm.close()
        pruner = self.pruner
        is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        ends_early = is_last and pruner.epoch < pruner.num_epochs and not pruner.current.finished
        if outputs or ends_early:
            check_recorded(pruner)
        if ends_early:  # limit_train_batches leaves out the rest
            pruner.end_epoch()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._batch_norm.close()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.pruner.epoch == trainer.current_epoch:  # not if it was over when resumed
            check_recorded(self.pruner)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.pruner.finish()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit" and self._loader is not None:
            self._loader.detach()
            trainer.fit_loop.max_epochs = self._max_epochs
            self._trainer = None

    def state_dict(self) -> dict[str, Any]:
        """The pruner's state; a collective on several processes, as all of Lightning's saving is."""
        return {} if self._pruner is None else self._pruner.state_dict()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Mapping[str, Any]) -> None:
        if self._trainer is not None:
            check_checkpoint(checkpoint, self.state_key)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._trainer is not None:  # and not merely evaluating a checkpoint
            self.pruner.load_state_dict(state_dict)

    # -- Inside ------------------------------------------------------------------------------------

    def _log(self, log: EpochLog) -> None:
        """Give the Trainer's loggers an epoch."""
        for logger in self._trainer.loggers:
            logger.log_metrics({**log.values, "epoch": log.epoch}, step=self._trainer.global_step)

    def _set_length(self, num_done: int) -> None:
        """Tell Lightning and its progress bar how many batches the epoch has, if that is known."""
        assert self._loader is not None
        num_left = self._loader.num_left
        if num_left:
            limit, fit_loop = self._trainer.limit_train_batches, self._trainer.fit_loop
            length = num_done + num_left
            fit_loop.max_batches = min(length, limit) if isinstance(limit, int) else length
