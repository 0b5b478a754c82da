"""Lightning: a callback that prunes a Trainer's fit, and the loader that goes with it.

The pruner is made when the fit begins, for only then are the run's length and its processes known. The
loader has no length, so that Lightning looks for each epoch's last batch itself; with one it would read
the first epoch's and cut later ones short.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LRScheduler

from infobatch.loading.dataset import IndexedDataset
from infobatch.lr import LRScaling, ProgressScheduler
from infobatch.policies import NoPruning
from infobatch.policies.base import refuse_refreshing
from infobatch.pruner import DynamicPruner

OLDEST, NEWEST = (2, 5), (2, 6)
"""The versions that the tests pass with; later ones of the same major version are let through."""


def _installed() -> Any:
    """``lightning.pytorch`` or ``pytorch_lightning``: first the one that the program uses already."""
    names = ["lightning.pytorch", "pytorch_lightning"]
    for name in sorted(names, key=lambda name: name not in sys.modules):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            missing = error
    raise ImportError(
        "infobatch.integrations.lightning needs lightning: pip install 'infobatch[lightning]'"
    ) from missing


def check_version(version: str) -> None:
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if not OLDEST <= found < (NEWEST[0] + 1, 0):
        raise ImportError(
            f"lightning is {version}; runs of epochs of any length are known to be right, and resumed "
            f"right, with {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}: "
            "pip install -U 'infobatch[lightning]'"
        )


pl = _installed()
check_version(pl.__version__)

if TYPE_CHECKING:
    _Base = object
else:
    _Base = pl.Callback


class PruningCallback(_Base):
    """Prunes what a Trainer trains: give it as a callback, and fit on its :meth:`loader`.

    ``options``: those of :class:`DynamicPruner`, such as ``policy``, ``delta``, ``target`` and ``seed``.
    The run's length and the processes are the Trainer's; ``max_steps`` counts steps of full data, and
    pruning makes the run end after fewer. While fitting and after it the module has the pruner as
    ``self.pruner``, in ``configure_optimizers`` too. What does not go together with pruning is refused
    with a ``ValueError`` when the fit begins.
    """

    state_key: str

    def __init__(self, **options: Any) -> None:
        check_options(options)
        self._options = options
        self._pruner: DynamicPruner | None = None
        self._loader: PrunedLoader | None = None
        self._trainer: Any = None

    @property
    def pruner(self) -> DynamicPruner:
        """The pruner of the fit under way, or of the last one."""
        if self._pruner is None:
            raise RuntimeError(
                "there is no pruner yet: it is made when trainer.fit begins, from the Trainer's length "
                "and processes"
            )
        return self._pruner

    def loader(self, dataset: Any, batch_size: int = 1, **options: Any) -> PrunedLoader:
        """What to fit on: batches ``(samples, batch)``, of this rank's share of each epoch.

        ``batch_size``: of each process. ``options``: those of :meth:`DynamicPruner.loader`. Make it
        before ``trainer.fit``, or in a DataModule's ``setup``.
        """
        if "loader_class" in options:
            raise ValueError(
                f"loader_class is {options['loader_class'].__name__}; leave it out: batches that were "
                "trained before a run was resumed are skipped already"
            )
        IndexedDataset(dataset)  # refuses what is not map-style
        self._loader = PrunedLoader(dataset, {"batch_size": batch_size, **options})
        return self._loader

    # -- What the Trainer calls --------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        loader = check_loader(self._loader)
        check_trainer(trainer, pl_module)
        length = _run_length(trainer, loader, _replicas(trainer))
        options = {**self._options, **_replicas(trainer), **length}
        if trainer.fast_dev_run:
            options["target"] = None  # it is of the whole run
        pruner = Pruner(loader.dataset, **options)
        loader.attach(pruner, trainer)
        trainer.fit_loop.max_epochs = pruner.num_epochs
        if trainer.current_epoch and self._pruner is not None:  # fitted for more epochs
            pruner.load_state_dict(self._pruner.state_dict())
        self._pruner = pl_module.pruner = pruner
        self._trainer = trainer

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if pl_module.automatic_optimization:
            check_schedules(trainer.lr_scheduler_configs, self.pruner)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        check_same_loader(trainer.train_dataloader, self._loader)
        batches = trainer.fit_loop.epoch_loop.batch_progress
        if batches.is_last_batch:
            # Resumed at an epoch's end, which Lightning tells by how many batches it had.
            trainer.fit_loop.max_batches = batches.current.ready

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.pruner.set_epoch(trainer.current_epoch)
        if self.pruner.current.done == 0:
            self._set_length(0)  # for progress bars, which look now

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        assert self._loader is not None
        batches = trainer.fit_loop.epoch_loop.batch_progress
        if self._loader.begins:
            self._loader.begins = False
            self._set_length(batches.current.ready - 1)
        if batches.current.ready == trainer.fit_loop.max_batches:
            batches.is_last_batch = True  # not noticed where limit_train_batches is higher

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if outputs:
            check_recorded(self.pruner)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.pruner.epoch == trainer.current_epoch:  # not if it was over when resumed
            check_recorded(self.pruner)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit" and self._loader is not None:
            self._loader.detach()
            self._trainer = None

    def state_dict(self) -> dict[str, Any]:
        """The pruner's state; a collective on several processes, as all of Lightning's saving is."""
        return {} if self._pruner is None else self._pruner.state_dict()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Mapping[str, Any]) -> None:
        if self._trainer is not None and not checkpoint["callbacks"].get(self.state_key):
            raise ValueError(
                "the checkpoint has no state of a PruningCallback, so which samples the run trained and "
                "their scores are not known: it was saved without pruning. Train from its weights "
                "instead (load_from_checkpoint), without ckpt_path"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._trainer is not None:  # and not merely evaluating a checkpoint
            self.pruner.load_state_dict(state_dict)

    # -- Inside ------------------------------------------------------------------------------------

    def _set_length(self, num_done: int) -> None:
        """Tell Lightning and its progress bar how many batches the epoch has, if that is known."""
        assert self._loader is not None
        num_left = self._loader.num_left
        if num_left:
            limit, fit_loop = self._trainer.limit_train_batches, self._trainer.fit_loop
            length = num_done + num_left
            fit_loop.max_batches = min(length, limit) if isinstance(limit, int) else length


class PrunedLoader:
    """The batches ``(samples, batch)`` of whichever epoch the Trainer is in.

    Made by :meth:`PruningCallback.loader`. It is no DataLoader, for Lightning would share that out among
    the processes once more, and it has no ``__len__``.
    """

    def __init__(self, dataset: Any, options: dict[str, Any]) -> None:
        self.dataset = dataset
        self.options = options
        self.begins = False
        self._pruner: DynamicPruner | None = None
        self._trainer: Any = None
        self._batches: Any = None

    def attach(self, pruner: DynamicPruner, trainer: Any) -> None:
        self._batches = pruner.loader(**self.options)
        self._pruner, self._trainer = pruner, trainer

    def detach(self) -> None:
        """Let go of the workers."""
        self._pruner = self._trainer = self._batches = None

    @property
    def num_left(self) -> int | None:
        """The batches of the epoch that were left when it began or was resumed; None if not known."""
        try:
            return len(self._batches)
        except TypeError:
            return None

    def __iter__(self) -> Iterator[Any]:
        if self._pruner is None:
            raise RuntimeError(
                "the loader belongs to a PruningCallback that the Trainer does not have, or is iterated "
                "outside of a fit; give Trainer(callbacks=[...]) the callback that made it"
            )
        # Lightning asks for a resumed run's first batch before it has noticed that its epoch is over.
        epoch = max(self._trainer.current_epoch, self._pruner.epoch + self._pruner.current.finished)
        if epoch < self._pruner.num_epochs:
            self._pruner.set_epoch(epoch)
            self.begins = True
            yield from self._batches

    def state_dict(self) -> dict[str, Any]:
        """Nothing: it is in the callback's. That there is one tells Lightning that it can resume."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


class Pruner(DynamicPruner):
    """The pruner of a module, which shares it with its copies (averaged weights), dataset and all."""

    def lr_scheduler(
        self, scheduler: LRScheduler, total_steps: int | None = None, scaling: LRScaling = "none"
    ) -> ProgressScheduler:
        steps = self.full_steps if total_steps is None else total_steps
        return Scheduler(scheduler, self, steps, scaling)

    def __deepcopy__(self, memo: dict[int, Any]) -> Pruner:
        return self


class Scheduler(ProgressScheduler, LRScheduler):  # type: ignore[misc, override]
    """One that Lightning takes for a scheduler of PyTorch's."""


def _replicas(trainer: Any) -> dict[str, int]:
    """Where this process stands among those that share the data."""
    coordinates = trainer.distributed_sampler_kwargs or {"rank": 0, "num_replicas": 1}
    return {name: coordinates[name] for name in ("rank", "num_replicas")}


def _run_length(trainer: Any, loader: PrunedLoader, replicas: Mapping[str, int]) -> dict[str, int]:
    """The run's length on full data, in epochs or, where ``max_steps`` ends it sooner, in batches."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    if trainer.fast_dev_run or steps < 0:
        return {"num_epochs": epochs}
    one = DynamicPruner(
        loader.dataset,
        1,
        policy=NoPruning(),
        rank=replicas["rank"],
        num_replicas=replicas["num_replicas"],
    )
    one.loader(**loader.options)
    num_accumulated = trainer.accumulate_grad_batches
    whole, rest = divmod(steps, -(-one.full_steps // num_accumulated))
    if 0 <= epochs <= whole:
        return {"num_epochs": epochs}
    return {"max_steps": whole * one.full_steps + rest * num_accumulated}


# -- What is refused -----------------------------------------------------------------------------------


def check_options(options: Mapping[str, Any]) -> None:
    refuse_refreshing(options.get("policy"), "Lightning's Trainer")
    for name in ("num_epochs", "max_steps", "rank", "num_replicas"):
        if name in options:
            raise ValueError(
                f"PruningCallback is given {name}={options[name]!r}, which is the Trainer's; leave it "
                "out"
            )
    if options.get("layout") is not None:
        raise ValueError(
            "PruningCallback is given a layout: Lightning's checkpoints hold the callback's state of "
            "the first process alone, and with sharded scores each has its own; leave it out"
        )


def check_loader(loader: PrunedLoader | None) -> PrunedLoader:
    if loader is None:
        raise ValueError(
            "PruningCallback has no loader; make it with its loader(dataset, batch_size) before "
            "trainer.fit or in the DataModule's setup, and fit on that"
        )
    return loader


def check_same_loader(used: Any, made: PrunedLoader | None) -> None:
    if used is not made:
        raise ValueError(
            f"the Trainer fits on a {type(used).__name__} that is not the last loader of its "
            "PruningCallback, so that samples would not be the selected ones; fit on what its "
            "loader(dataset, batch_size) gives, alone and as it is"
        )


def check_trainer(trainer: Any, pl_module: Any) -> None:
    """Refuse what would train something else than asked for."""
    for name, (is_wrong, reason, remedy) in _REFUSED.items():
        value = getattr(trainer, name)
        if is_wrong(value):
            raise ValueError(f"{name} is {value!r}: {reason}; {remedy}")
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
    if not isinstance(getattr(pl_module, "pruner", None), Pruner | None):
        raise ValueError(
            f"the module has a pruner of its own, a {type(pl_module.pruner).__name__}; PruningCallback "
            "makes it, with the Trainer's length and processes, so leave it out"
        )


def _is_share(value: Any) -> bool:
    """Whether a limit is a share of an epoch's batches, and neither all nor none of them."""
    return isinstance(value, float) and 0 < value < 1


_REFUSED: dict[str, tuple[Any, str, str]] = {
    "overfit_batches": (
        lambda value: value > 0,
        "an epoch here is another selection in another order, never the same few batches",
        "give the loader a torch.utils.data.Subset and the policy NoPruning()",
    ),
    "limit_train_batches": (
        _is_share,
        "how many batches an epoch has is known only when it begins",
        "give a number of batches, or the loader a torch.utils.data.Subset",
    ),
    "val_check_interval": (
        _is_share,
        "how many batches an epoch has is known only when it begins",
        "give a number of batches",
    ),
}


def check_schedules(configs: Any, pruner: DynamicPruner) -> None:
    for config in configs:
        schedule = config.scheduler
        if isinstance(schedule, ProgressScheduler):
            if config.interval == "epoch" and schedule.total_steps > pruner.num_epochs:
                raise ValueError(
                    f"the schedule has {schedule.total_steps} steps and interval='epoch', so that it "
                    f"would change only {pruner.num_epochs} times; in configure_optimizers give "
                    '{"scheduler": ..., "interval": "step"}'
                )
        elif config.interval == "step" and not config.reduce_on_plateau:
            warnings.warn(
                f"{type(schedule).__name__} counts steps, of which pruning leaves some out, so that it "
                "may not come to its end; wrap it: self.pruner.lr_scheduler(schedule)",
                stacklevel=2,
            )


def check_recorded(pruner: DynamicPruner) -> None:
    if pruner.current.done == 0 and pruner.current.num_trained:
        raise RuntimeError(
            f"epoch {pruner.epoch} has no recorded loss, so nothing could ever be pruned; training_step "
            "must take samples, batch = batch, compute one loss for each sample, and return "
            "self.pruner.update(losses, samples)"
        )
