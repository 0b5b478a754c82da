"""The Trainer with pruning: its epochs, its loss, its schedule and its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from infobatch.batch_norm import batch_weights, is_weighed
from infobatch.batching import Batching
from infobatch.integrations.logging import TakesLoggers
from infobatch.integrations.refusals import no_pruner_in
from infobatch.integrations.transformers.batches import INDICES, CollateWithIndices, logits_of
from infobatch.integrations.transformers.installed import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    PREFIX_CHECKPOINT_DIR,
    Trainer,
    is_datasets_available,
    seed_worker,
)
from infobatch.integrations.transformers.refusals import (
    check_labels,
    check_rows,
    check_same_loss,
    check_trainer,
    check_weighed,
    indices_in,
)
from infobatch.loading.dataset import IndexedDataset
from infobatch.losses import NOT_SUPERVISED, classification_losses, sent_to_device, sequence_losses
from infobatch.lr import ProgressScheduler
from infobatch.policies import Policy
from infobatch.pruner import DynamicPruner
from infobatch.scores.columns import IndexArray

STATE_FILE = "pruner.pt"
"""The pruner's state within a checkpoint's folder."""

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object


class PruningMixin(TakesLoggers, _Base):
    """Gives any Trainer pruning: ``class Mine(PruningMixin, MyTrainer)``.

    Args:
        *args: The Trainer's own arguments.
        pruning: Options of :class:`DynamicPruner`, such as ``policy``, ``delta`` or ``target``. The
            run's length and, unless it is given, the seed are those of the TrainingArguments. Their
            ``max_steps`` counts steps of full data; pruning makes the run end after fewer.
        **kwargs: The Trainer's own keyword arguments.

    Raises:
        ValueError: For arguments that do not go together with pruning; each with the remedy.
        TypeError: If ``pruning`` is a policy in place of a mapping of options.
    """

    lr_scheduler: Any
    compute_loss_func: Any

    def __init__(self, *args: Any, pruning: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if isinstance(pruning, Policy):
            raise TypeError(f'pruning is {pruning!r}; give options: pruning={{"policy": {pruning!r}}}')
        super().__init__(*args, **kwargs)
        self.pruning = dict(pruning or {})
        check_trainer(self, self.pruning)
        self._pruner: DynamicPruner | None = None
        self._loss_is_checked = False
        self._has_weighed_batch_norm: bool | None = None
        self._indices: IndexArray | None = None  # of the batch whose loss is still to be weighted

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
        epoch, before = self.pruner.current, self.pruner.epoch * self._full_epoch
        return (before + epoch.done * min(self._full_epoch, self._full_run - before)) / self._full_run

    def sample_losses(self, outputs: Any, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each sequence; override it for another loss than cross-entropy.

        Args:
            outputs: What the model made of a batch, with its logits: (B, C), or (B, T, C) for labels of
                tokens.
            labels: Classes, int64: (B,) or (B, T). Items labeled -100 are not supervised.

        Returns:
            Each sequence's mean loss (B,), and how many supervised items it is a mean of, int64 or bool
            (B,). A sequence without any has no score.

        Raises:
            ValueError: If the model made no logits.
        """
        logits = logits_of(outputs).float()
        smoothes = self.label_smoother is not None and self.model.training
        smoothing = self.args.label_smoothing_factor if smoothes else 0.0
        if logits.ndim == 2:
            # A label -100 has loss and gradient 0, as in a sequence.
            losses = classification_losses(logits, labels.flatten(), label_smoothing=smoothing)
            return losses, labels.flatten().ne(NOT_SUPERVISED)
        shift = self._labels_are_shifted
        losses = sequence_losses(logits, labels, label_smoothing=smoothing, shift=shift)
        return losses, labels[:, int(shift) :].ne(NOT_SUPERVISED).sum(1)

    # -- What the Trainer calls --------------------------------------------------------------------

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self._pruner = None
        self._has_weighed_batch_norm = None
        self._loss_is_checked = type(self).sample_losses is not PruningMixin.sample_losses
        return super().train(*args, **kwargs)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The selection's batches; the ranks share them already, so that Accelerate must not."""
        args, pruner = self.args, self.pruner
        dataset, collate = self.train_dataset, self.data_collator
        if is_datasets_available() and _is_hugging_face(dataset):
            dataset = self._remove_unused_columns(dataset, description="Training")
        else:
            collate = self._get_collator_with_removed_columns(collate, description="Training")
        size, drop_last = self._train_batch_size, args.dataloader_drop_last
        # The Trainer skips what was trained before it was resumed.
        batches: dict[str, Any]
        if pruner.plan.shrink:
            batch_sampler = pruner.batch_sampler(size, drop_last=drop_last, resumes=False)
            batches = {"batch_sampler": batch_sampler}
        else:
            sampler = pruner.sampler(size, drop_last=drop_last, resumes=False)
            batches = {"sampler": sampler, "batch_size": size, "drop_last": drop_last}
        return DataLoader(
            IndexedDataset(dataset),
            **batches,
            collate_fn=CollateWithIndices(collate),
            generator=pruner.worker_generator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=getattr(args, "dataloader_multiprocessing_context", None),
            worker_init_fn=partial(
                seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index
            ),
        )

    def set_initial_training_values(self, args: Any, *others: Any, **options: Any) -> Any:
        """The run's lengths on full data, which the learning rate's schedule is made for."""
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

    def _get_num_items_in_batch(self, batch_samples: Any, device: Any) -> Any:
        """The supervised items of an update; where batches shrink, counted with their weights.

        A smaller batch stands for one of full data, whose items its own must estimate: those of samples
        that are kept may be longer or shorter than the others.
        """
        number = super()._get_num_items_in_batch(batch_samples, device)
        is_training = bool(batch_samples) and INDICES in batch_samples[0]
        if number is None or not is_training or not self.pruner.plan.shrink:
            return number
        pairs = torch.stack([self._items_of(batch) for batch in batch_samples]).sum(0)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            pairs = self.accelerator.gather(pairs.to(device)).view(-1, 2).sum(0)
        return number * (pairs[0] / pairs[1].clamp(min=1)).to(number.device)

    def _run_epoch(self, *, epoch: int, **kwargs: Any) -> Any:
        self.pruner.set_epoch(epoch)
        kwargs["steps_in_epoch"] = len(kwargs["train_dataloader"])
        kwargs["num_update_steps_per_epoch"] = self._updates(kwargs["steps_in_epoch"])
        resumed = epoch == kwargs["epochs_trained"]
        self._set_max_steps(epoch, kwargs["steps_trained_in_current_epoch"] if resumed else 0)
        return super()._run_epoch(epoch=epoch, **kwargs)

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """A step in which weighted batch norm, if the model has any, knows the batch's weights."""
        if self._has_weighed_batch_norm is None:
            self._has_weighed_batch_norm = is_weighed(model)
        self._indices = indices_in(inputs, self)
        weighs = self._has_weighed_batch_norm
        with batch_weights(model, self.pruner.weights(self._indices)) if weighs else nullcontext():
            loss = super().training_step(model, inputs, *args, **kwargs)
        check_weighed(self._indices is None, self, PruningMixin)
        return loss

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        indices = self._indices
        if indices is None:  # evaluation
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        check_rows(inputs.get("labels"), indices)
        if not self._loss_is_checked:
            self._check_loss(model, inputs)
        # Set for this call alone: elsewhere the Trainer would take it for the user's.
        self.compute_loss_func = partial(self._weighted_loss, indices)
        try:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        finally:
            self.compute_loss_func = None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if not self.args.save_only_model:
            state = self.pruner.state_dict()  # on every rank
            if self.args.should_save:
                name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
                folder = Path(self._get_output_dir(trial=trial)) / name
                folder.mkdir(parents=True, exist_ok=True)
                torch.save(state, folder / STATE_FILE)
        super()._save_checkpoint(model, trial)

    def _finalize_training(self, trial: Any, num_train_samples: float, start_time: float) -> Any:
        """Report the throughput of the samples that were trained, not of full data."""
        self.pruner.finish()
        return super()._finalize_training(trial, self.pruner.report().num_recorded, start_time)

    # -- Inside ------------------------------------------------------------------------------------

    @property
    def _batching(self) -> Batching:
        args = self.args
        return Batching(self._train_batch_size, args.dataloader_drop_last, args.world_size)

    def _updates(self, num_batches: int) -> int:
        """The optimizer steps of an epoch with so many batches; the last may accumulate fewer."""
        return -(-num_batches // self.args.gradient_accumulation_steps)

    @property
    def _full_epoch(self) -> int:
        """The optimizer steps of an epoch on full data."""
        return max(1, self._updates(self._batching.num_steps(len(self.train_dataset))))

    @property
    def _full_run(self) -> int:
        """The optimizer steps that the run would have on full data."""
        if self.args.max_steps > 0:
            return int(self.args.max_steps)
        return math.ceil(self.args.num_train_epochs * self._full_epoch)

    def _make_pruner(self) -> DynamicPruner:
        num_samples = len(IndexedDataset(self.train_dataset))
        whole, rest = divmod(self._full_run, self._full_epoch)
        update_size = self._batching.global_batch_size * self.args.gradient_accumulation_steps
        num_epochs = whole + rest * update_size / num_samples
        options = {"seed": self.args.seed, **self.pruning}
        pruner = DynamicPruner(self.train_dataset, num_epochs, **options)
        self._attach_loggers(pruner, lambda log: self.log(dict(log.values)))
        return pruner

    def _updates_in(self, epoch: int) -> int:
        """An epoch's optimizer steps; an upper bound where it has not begun and has no target."""
        plan = self.pruner.plan
        if plan.shrink:
            return self._updates(plan.num_batches(epoch))
        num_kept = self.pruner.selection.num_selected
        if epoch != self.pruner.epoch:
            num_kept = plan.num_samples - (plan.schedule.num_pruned(epoch) or 0)
        return self._updates(self._batching.num_steps(plan.num_trained(epoch, num_kept)))

    def _set_max_steps(self, epoch: int, num_batches: int) -> None:
        """Tell the Trainer's callbacks when the run ends, as far as that is known."""
        left = sum(map(self._updates_in, range(epoch, self.pruner.num_epochs)))
        self.state.max_steps = self.state.global_step - self._updates(num_batches) + left

    def _resume(self, checkpoint: Path) -> tuple[int, int]:
        """Load the pruner; returns the epoch to go on with and how many of its batches were trained."""
        path = checkpoint / STATE_FILE
        if not path.exists():
            raise FileNotFoundError(
                no_pruner_in(
                    f"{checkpoint} has no {STATE_FILE}",
                    "without pruning, or with save_only_model",
                    "Train from the model it holds instead, without resume_from_checkpoint",
                )
            )
        try:
            state = torch.load(path, weights_only=True)
        except Exception as error:  # of many kinds, where the file is cut or none of torch's
            raise ValueError(
                f"{path} cannot be read ({type(error).__name__}), as after a kill while it was written; "
                "resume from an older checkpoint"
            ) from error
        self.pruner.load_state_dict(state)
        epoch = self.pruner.current
        if epoch.finished:
            return epoch.number + 1, 0
        num_accumulated = self.args.gradient_accumulation_steps
        global_size = int(self._batching.global_batch_size)
        if epoch.shrinks_batches:
            ends = epoch.batch_ends(resumes=False) * self._batching.num_replicas
            num_batches = int((ends <= epoch.num_recorded).sum())
            rest = epoch.num_recorded - (int(ends[num_batches - 1]) if num_batches else 0)
        else:
            num_batches, rest = divmod(epoch.num_recorded, global_size)
        if rest or num_batches % num_accumulated:
            size = "sizes" if epoch.shrinks_batches else f"{global_size * num_accumulated}"
            raise ValueError(
                f"{checkpoint} was saved {epoch.num_recorded:,} samples into epoch {epoch.number}, no "
                f"multiple of the {size} of an update here (batch size x accumulation x processes); "
                "resume with the values it was trained with"
            )
        return epoch.number, num_batches

    @property
    def _labels_are_shifted(self) -> bool:
        name = type(self.accelerator.unwrap_model(self.model)).__name__
        if hasattr(self.model, "get_base_model"):  # of PEFT
            name = type(self.model.get_base_model()).__name__
        causal = name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
        return causal or getattr(self, "_loss_shifts_labels", False)

    def _items_of(self, batch: Any) -> Tensor:
        """The supervised items of a batch counted with their weights, and without: float32 (2,)."""
        labels = batch["labels"]
        if labels.ndim > 1 and getattr(self, "_loss_shifts_labels", False):
            labels = labels[..., 1:]
        counts = labels.ne(NOT_SUPERVISED).reshape(len(labels), -1).sum(1).float().cpu()
        return torch.stack([counts @ self.pruner.weights(batch[INDICES]), counts.sum()])

    def _weighted_loss(
        self,
        indices: IndexArray,
        outputs: Any,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """sum_i w_i * (the summed loss of sequence i) / the supervised items of the whole update."""
        losses, counts = self.sample_losses(outputs, labels)
        self.pruner.record(losses, indices, scored=counts > 0)
        self._indices = None
        weights = sent_to_device(self.pruner.weights(indices), losses.device)
        if num_items_in_batch is None:  # for a model whose loss is the mean of each batch
            num_items_in_batch = (counts * weights).sum() if self.pruner.plan.shrink else counts.sum()
        total = torch.as_tensor(num_items_in_batch, device=losses.device).clamp(min=1)
        loss: Tensor = self.pruner.shown((losses * counts * weights).sum() / total)
        # Mixtures of experts add their routers' loss themselves only when they are given labels.
        routers = outputs.get("aux_loss") if isinstance(outputs, Mapping) else None
        if routers is not None:
            loss = loss + self.model.config.router_aux_loss_coef * routers.to(loss.device)
        return loss

    @torch.no_grad()
    def _check_loss(self, model: Any, inputs: Any) -> None:
        """Compare our loss of the first batch with the one that the model itself makes of it."""
        labels = inputs["labels"]
        check_labels(labels)
        model.eval()
        outputs = model(**inputs)
        losses, counts = self.sample_losses(outputs, labels)
        model.train()
        check_same_loss(outputs, (losses * counts).sum() / counts.sum(), type(self.model).__name__)
        self._loss_is_checked = True


class PruningTrainer(PruningMixin, Trainer):
    """``transformers.Trainer`` with pruning; its arguments are those of :class:`PruningMixin`."""


def _is_hugging_face(dataset: Any) -> bool:
    import datasets

    return isinstance(dataset, datasets.Dataset)
