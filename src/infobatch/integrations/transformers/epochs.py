"""A Trainer whose epochs are a pruner's: their lengths, its schedule and its checkpoints."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from infobatch.integrations.logging import TakesLoggers
from infobatch.integrations.refusals import no_pruner_in
from infobatch.integrations.transformers.installed import PREFIX_CHECKPOINT_DIR, Trainer
from infobatch.integrations.transformers.refusals import own_loader
from infobatch.loading.dataset import IndexedDataset
from infobatch.lr import ProgressScheduler
from infobatch.policies import NoiseBudget, Policy
from infobatch.pruner import DynamicPruner

STATE_FILE = "pruner.pt"
"""The pruner's state within a checkpoint's folder."""

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object


class PrunedEpochs(TakesLoggers, _Base):
    """The part of a Trainer with pruning that knows nothing of losses: mixed into any Trainer.

    What is mixed in with it says how samples become batches, and records them.

    Args:
        *args: The Trainer's own arguments.
        pruning: Options of :class:`DynamicPruner`.
        **kwargs: The Trainer's own keyword arguments.

    Raises:
        TypeError: If ``pruning`` is no mapping of options, such as a policy.
    """

    lr_scheduler: Any

    def __init__(self, *args: Any, pruning: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if not isinstance(pruning, Mapping | None):
            policy = pruning if isinstance(pruning, Policy) else NoiseBudget()
            raise TypeError(f'pruning is {pruning!r}; give options: pruning={{"policy": {policy!r}}}')
        super().__init__(*args, **kwargs)
        self.pruning = dict(pruning or {})
        self._pruner: DynamicPruner | None = None

    @property
    def pruner(self) -> DynamicPruner:
        """The pruner of the current run, or of the last one; ``train`` begins with a new one."""
        if self._pruner is None:
            self._pruner = self._make_pruner()
        return self._pruner

    @property
    def progress(self) -> float:
        """The fraction of the run that is done, in [0, 1], which drives the learning rate's schedule.

        An epoch counts as the optimizer steps it has on full data, its last short one too.
        """
        before = self.pruner.epoch * self._full_epoch
        return (before + self._done * min(self._full_epoch, self._full_run - before)) / self._full_run

    # -- What is mixed in says -----------------------------------------------------------------------

    @abstractmethod
    def _num_batches(self, num_samples: int) -> int:
        """The batches, on each process, of an epoch that trains so many samples."""

    @property
    @abstractmethod
    def _samples_in_update(self) -> float:
        """The samples of an optimizer step, on all processes."""

    @property
    def _num_repeats(self) -> int:
        """How often the Trainer trains each of the pruner's batches."""
        return 1

    @property
    def _done(self) -> float:
        """The part of the epoch that is done, in [0, 1]."""
        return self.pruner.current.done

    @property
    def _seed(self) -> int:
        """The seed of the run, unless ``pruning`` has one."""
        return int(self.args.seed)

    @property
    def _options(self) -> Mapping[str, Any]:
        """Options of the pruner."""
        return {"seed": self._seed, **self.pruning}

    @property
    def _tells(self) -> bool:
        """Whether this process has loggers: all have, where the pruner knows of all of them."""
        return True

    def _log_epoch(self, values: dict[str, float]) -> None:
        """Give the values of an epoch that has ended to the Trainer's own loggers.

        TRL's ``log`` adds the means of its metrics, which begin anew then.
        """
        Trainer.log(self, values)

    @property
    def _more_files(self) -> Mapping[str, Any]:
        """What a checkpoint holds beside the pruner, by the names of its files."""
        return {}

    @abstractmethod
    def _resume(self, checkpoint: Path) -> tuple[int, int]:
        """Load what was saved; the epoch to go on with, and how many of its batches were trained."""

    # -- What the Trainer calls --------------------------------------------------------------------

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self._pruner = None
        return super().train(*args, **kwargs)

    def set_initial_training_values(self, args: Any, *others: Any, **options: Any) -> Any:
        """The run's lengths on full data, which the learning rate's schedule is made for."""
        if self.pruner.plan.batching is None:  # which our get_train_dataloader tells
            raise own_loader(self)
        values = super().set_initial_training_values(args, *others, **options)
        return (self.pruner.num_epochs, *values[1:-1], self._full_run)

    def _init_training_state(
        self, max_steps: int, updates: int, num_epochs: int, checkpoint: str | None, trial: Any
    ) -> tuple[int, int]:
        start = super()._init_training_state(max_steps, updates, num_epochs, checkpoint, trial)
        if checkpoint is not None:
            start = self._resume(Path(checkpoint))
        self._set_max_steps(*start)
        return start

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule made for full data, driven by progress."""
        if isinstance(self.lr_scheduler, ProgressScheduler):  # given to us, and trained with before
            self.lr_scheduler = self.lr_scheduler.scheduler
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if not hasattr(scheduler, "patience"):  # one that follows a metric, not the steps
            self.lr_scheduler = ProgressScheduler(scheduler, self, num_training_steps)
        return self.lr_scheduler

    def _run_epoch(self, *, epoch: int, **kwargs: Any) -> Any:
        self.pruner.set_epoch(epoch)
        kwargs["steps_in_epoch"] = len(kwargs["train_dataloader"])
        kwargs["num_update_steps_per_epoch"] = self._updates(kwargs["steps_in_epoch"])
        resumed = epoch == kwargs["epochs_trained"]
        self._set_max_steps(epoch, kwargs["steps_trained_in_current_epoch"] if resumed else 0)
        return super()._run_epoch(epoch=epoch, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if not self.args.save_only_model:
            state = self.pruner.state_dict()  # on every rank
            if self.args.should_save:
                name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
                folder = Path(self._get_output_dir(trial=trial)) / name
                folder.mkdir(parents=True, exist_ok=True)
                for name, values in {STATE_FILE: state, **self._more_files}.items():
                    torch.save(values, folder / name)
        super()._save_checkpoint(model, trial)

    def _finalize_training(self, trial: Any, num_train_samples: float, start_time: float) -> Any:
        """Report the throughput of the samples that were trained, not of full data."""
        self.pruner.finish()
        self.state.max_steps = max(1, self.state.global_step)  # the Trainer scales by their ratio
        return super()._finalize_training(trial, self.pruner.report().num_recorded, start_time)

    # -- Inside ------------------------------------------------------------------------------------

    def _updates(self, num_batches: int) -> int:
        """The optimizer steps of an epoch with so many batches; the last may accumulate fewer."""
        return -(-num_batches // self.args.gradient_accumulation_steps)

    @property
    def _full_epoch(self) -> int:
        """The optimizer steps of an epoch on full data."""
        return max(1, self._updates(self._num_batches(len(self.train_dataset))))

    @property
    def _full_run(self) -> int:
        """The optimizer steps that the run would have on full data."""
        if self.args.max_steps > 0:
            return int(self.args.max_steps)
        return math.ceil(self.args.num_train_epochs * self._full_epoch)

    def _make_pruner(self) -> DynamicPruner:
        num_samples = len(IndexedDataset(self.train_dataset))
        whole, rest = divmod(self._full_run, self._full_epoch)
        num_epochs = whole + rest * self._samples_in_update / max(1, num_samples)
        pruner = DynamicPruner(self.train_dataset, num_epochs, **self._options)
        if self._tells:
            self._attach_loggers(pruner, lambda log: self._log_epoch(dict(log.values)))
        return pruner

    def _updates_in(self, epoch: int) -> int:
        """An epoch's optimizer steps; an upper bound where it has not begun and has no target."""
        plan = self.pruner.plan
        if plan.shrink:
            return self._updates(plan.num_batches(epoch) * self._num_repeats)
        num_kept = self.pruner.selection.num_selected
        if epoch != self.pruner.epoch:
            num_kept = plan.num_samples - (plan.schedule.num_pruned(epoch) or 0)
        return self._updates(self._num_batches(plan.num_trained(epoch, num_kept)))

    def _set_max_steps(self, epoch: int, num_batches: int) -> None:
        """Tell the Trainer's callbacks when the run ends, as far as that is known."""
        left = sum(map(self._updates_in, range(epoch, self.pruner.num_epochs)))
        self.state.max_steps = self.state.global_step - self._updates(num_batches) + left

    def _load_pruner(self, checkpoint: Path) -> None:
        """Load the pruner's state. An error says what a checkpoint lacks, or that it is cut."""
        path = checkpoint / STATE_FILE
        if not path.exists():
            raise FileNotFoundError(
                no_pruner_in(
                    f"{checkpoint} has no {STATE_FILE}",
                    "without pruning, or with save_only_model",
                    "Train from the model it holds instead, without resume_from_checkpoint",
                )
            )
        self.pruner.load_state_dict(read_state(path))


def read_state(path: Path) -> dict[str, Any]:
    """What a file of a checkpoint holds. ``ValueError`` if it cannot be read."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, where the file is cut or none of torch's
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}), as after a kill while it was written; "
            "resume from an older checkpoint"
        ) from error
    return state
