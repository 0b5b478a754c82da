"""The Trainer with pruning: its batches, its loss, and what of them is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader

from infobatch.batch_norm import batch_weights, is_weighed
from infobatch.batching import Batching
from infobatch.integrations.transformers.batches import (
    INDICES,
    CollateWithIndices,
    class_logits_of,
    found_logits,
    logits_of,
    own_loss_of,
    with_decoder_inputs,
)
from infobatch.integrations.transformers.epochs import PrunedEpochs, read_state
from infobatch.integrations.transformers.installed import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    Trainer,
    is_datasets_available,
    seed_worker,
)
from infobatch.integrations.transformers.items import MeanItems, sums_of
from infobatch.integrations.transformers.refusals import (
    check_labels,
    check_rows,
    check_same_logits,
    check_same_loss,
    check_trainer,
    check_weighed,
    indices_in,
    refusing_models_that_need_labels,
)
from infobatch.integrations.transformers.routers import router_coefficient, routers_loss_of
from infobatch.loading.dataset import IndexedDataset
from infobatch.losses import (
    NOT_SUPERVISED,
    classification_gradient_norms,
    classification_losses,
    classification_margins,
    sent_to_device,
    sequence_losses,
)
from infobatch.noise import norms_of_losses
from infobatch.scores.columns import NORMS, IndexArray

ITEMS_FILE = "items.pt"
"""What a run knows of its samples' numbers of items, within a checkpoint's folder."""


class PruningMixin(PrunedEpochs):
    """Gives any Trainer pruning: ``class Mine(PruningMixin, MyTrainer)``.

    Args:
        *args: The Trainer's own arguments.
        pruning: Options of :class:`DynamicPruner`, such as ``policy``, ``delta`` or ``target``. The
            run's length and, unless it is given, the seed are those of the TrainingArguments. Their
            ``max_steps`` counts steps of full data; where pruning shrinks steps, the run ends after
            fewer.
        **kwargs: The Trainer's own keyword arguments.

    Raises:
        ValueError: For arguments that do not go together with pruning; each with the remedy.
        TypeError: If ``pruning`` is no mapping of options, such as a policy, or has what is no option.
    """

    compute_loss_func: Any
    loss_is_scaled_for_ga: bool | None  # since transformers 5.19: whether the loss is that of an update

    def __init__(self, *args: Any, pruning: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, pruning=pruning, **kwargs)
        check_trainer(self, self.pruning)
        self._mean_items = MeanItems()
        self._loss_is_checked = False
        self._has_weighed_batch_norm: bool | None = None
        self._indices: IndexArray | None = None  # of the batch that is trained
        self._is_recorded = False

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
        logits, smoothing = logits_of(outputs).float(), self._smoothing
        if logits.ndim == 2:
            # A label -100 has loss and gradient 0, as in a sequence.
            losses = classification_losses(logits, labels.flatten(), label_smoothing=smoothing)
            return losses, labels.flatten().ne(NOT_SUPERVISED)
        shift = self._labels_are_shifted
        # PEFT's prompts are tokens before those that have labels.
        labels = pad(labels, (max(0, logits.shape[1] - labels.shape[1]), 0), value=NOT_SUPERVISED)
        losses = sequence_losses(logits, labels, label_smoothing=smoothing, shift=shift)
        return losses, labels[:, int(shift) :].ne(NOT_SUPERVISED).sum(1)

    # -- What the Trainer calls --------------------------------------------------------------------

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self._mean_items = MeanItems()
        self._has_weighed_batch_norm = None
        self._loss_is_checked = self._has_own_losses
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

    def _get_num_items_in_batch(self, batch_samples: Any, device: Any) -> Any:
        """The supervised items of an update; in a pruned epoch as many as its samples have in the mean.

        Those of the samples that are kept may be longer or shorter than the others.
        """
        number = super()._get_num_items_in_batch(batch_samples, device)
        if not batch_samples or INDICES not in batch_samples[0]:  # evaluation
            return number
        own = [self._item_sums(batch.get("labels"), batch[INDICES]) for batch in batch_samples]
        sums = of_all = torch.stack(own).sum(0)
        if self.args.world_size > 1:
            of_all = self.accelerator.gather(sums.to(device)).view(-1, 4).sum(0)
        self._mean_items.add(self.pruner.epoch, of_all)
        if number is None:
            return None
        part: Tensor | float = 1.0
        if not self.args.average_tokens_across_devices:  # so that processes count by their samples
            part, of_all = of_all[3] / (self.args.world_size * sums[3].to(device)).clamp(min=1), sums
        items = self._mean_items.expected(of_all) if self._is_pruned else number
        return torch.as_tensor(items * part, dtype=torch.float32, device=device)

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """A step in which weighted batch norm, if the model has any, knows the batch's weights."""
        if self._has_weighed_batch_norm is None:
            self._has_weighed_batch_norm = is_weighed(model)
        self._indices, self._is_recorded = indices_in(inputs, self), False
        weighs, before = self._has_weighed_batch_norm, getattr(self, "loss_is_scaled_for_ga", None)
        try:
            with batch_weights(model, self.pruner.weights(self._indices)) if weighs else nullcontext():
                loss = super().training_step(model, inputs, *args, **kwargs)
        finally:
            self._indices, self.loss_is_scaled_for_ga = None, before
        check_weighed(self._is_recorded, self, PruningMixin)
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
        # A copy, from which labels are taken: a step may compute its loss again.
        inputs = with_decoder_inputs({**inputs}, self.model)
        if not self._loss_is_checked:
            self._check_loss(model, inputs)
        # Set for this call alone: elsewhere the Trainer would take it for the user's.
        self.compute_loss_func = partial(self._weighted_loss, indices)
        try:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        finally:
            self.compute_loss_func = None

    # -- Inside ------------------------------------------------------------------------------------

    @property
    def _seed(self) -> int:
        """That of the data's order, where there is one of its own."""
        own = self.args.data_seed
        return super()._seed if own is None else int(own)

    @property
    def _batching(self) -> Batching:
        args = self.args
        return Batching(self._train_batch_size, args.dataloader_drop_last, args.world_size)

    def _num_batches(self, num_samples: int) -> int:
        return self._batching.num_steps(num_samples)

    @property
    def _samples_in_update(self) -> float:
        return self._batching.global_batch_size * self.args.gradient_accumulation_steps

    @property
    def _more_files(self) -> Mapping[str, Any]:
        return {ITEMS_FILE: self._mean_items.state_dict()}

    def _resume(self, checkpoint: Path) -> tuple[int, int]:
        """Load the pruner; returns the epoch to go on with and how many of its batches were trained."""
        self._load_pruner(checkpoint)
        self._mean_items.load_state_dict(read_state(checkpoint / ITEMS_FILE))
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
        model = self.accelerator.unwrap_model(self.model)
        if hasattr(self.model, "get_base_model"):  # of PEFT
            model = self.model.get_base_model()
        names = {kind.__name__ for kind in type(model).__mro__}
        causal = not names.isdisjoint(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
        return causal or getattr(self, "_loss_shifts_labels", False)

    @property
    def _has_own_losses(self) -> bool:
        return type(self).sample_losses is not PruningMixin.sample_losses

    @property
    def _smoothing(self) -> float:
        smoothes = self.label_smoother is not None and self.model.training
        return self.args.label_smoothing_factor if smoothes else 0.0

    @property
    def _is_pruned(self) -> bool:
        """Whether the epoch leaves anything out."""
        return self.pruner.current.num_selected < self.pruner.num_samples

    def _item_sums(self, labels: Any, indices: IndexArray) -> Tensor:
        """The sums over a batch of its supervised items and weights: see :func:`sums_of`."""
        check_rows(labels, indices)
        if labels.ndim > 1 and getattr(self, "_loss_shifts_labels", False):
            labels = labels[..., 1:]
        items = labels.ne(NOT_SUPERVISED).reshape(len(labels), -1).sum(1)
        return sums_of(items, sent_to_device(self.pruner.relative_weights(indices), items.device))

    def _items_in(self, labels: Tensor, indices: IndexArray, counted: Tensor) -> Tensor:
        """What the sum over a batch is divided by, of which the items were ``counted``.

        Repeats count as much as samples: so the processes' means have equal parts in the mean over them.
        """
        items = counted * (len(indices) / max(1, int((indices >= 0).sum())))
        if not self._is_pruned:
            return items
        sums = self._item_sums(labels, indices)
        return items * (self._mean_items.expected(sums) / sums[0].clamp(min=1)).to(items)

    def _signals(
        self, outputs: Any, labels: Tensor, losses: Tensor, counts: Tensor
    ) -> dict[str, Tensor]:
        """What is given of a batch beside its losses.

        Where sequences have a class, their margins if they are recorded, and norms in the logits. The
        norm of another one's sum follows from its mean loss, and grows with the root of its items, as
        where their gradients are independent.
        """
        logits = None if self._has_own_losses else class_logits_of(outputs)
        given = {}
        if logits is not None and "record_to" in self.pruning:
            given["margins"] = classification_margins(logits, labels.flatten())
        if self.pruner.policy.estimates_norms and logits is not None:
            given[NORMS] = classification_gradient_norms(
                logits, labels.flatten(), label_smoothing=self._smoothing
            )
        elif self.pruner.policy.estimates_norms:
            given[NORMS] = norms_of_losses(losses, self.pruner.norms_from) * counts.sqrt()
        return given

    def _weighted_loss(
        self,
        indices: IndexArray,
        outputs: Any,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """sum_i w_i * (the summed loss of sequence i) / the supervised items of the whole update."""
        losses, counts = self.sample_losses(outputs, labels)
        if not self._is_recorded:  # at the first evaluation of a step
            signals = self._signals(outputs, labels, losses, counts)
            self.pruner.record(losses, indices, scored=counts > 0, **signals)
            self._is_recorded = True
        self.loss_is_scaled_for_ga = is_counted = num_items_in_batch is not None
        weights = self.pruner.weights(indices)
        if num_items_in_batch is None:  # for a model whose loss is the mean of each batch
            num_items_in_batch = self._items_in(labels, indices, counts.sum())
            weights = torch.from_numpy(self.pruner.factors(indices))  # for the mean over the processes
        weights = sent_to_device(weights, losses.device)
        total = torch.as_tensor(num_items_in_batch, device=losses.device)
        total = total.clamp(min=1 / self.args.world_size)  # for where there is none
        loss = (losses * counts * weights).sum() / total
        # Mixtures of experts add their routers' loss themselves only when they are given labels.
        routers = routers_loss_of(outputs)
        if routers is not None:  # to count as much beside a loss that is larger where steps are fewer
            coefficient = self._router_coefficient(is_counted) * self.pruner.mean_weight
            loss = loss + coefficient * routers.to(loss.device)
        return self.pruner.shown(loss)

    def _router_coefficient(self, is_counted: bool) -> float:
        """What a router's loss counts, where the Trainer has counted the items of an update or not."""
        own = getattr(self, "router_aux_loss_coef", None)
        if own is None:
            return router_coefficient(self.model)
        if not is_counted:
            return float(own)
        # TRL's SFTTrainer takes its mean over an update, and over the processes.
        num_parts = self.current_gradient_accumulation_steps
        if self.args.average_tokens_across_devices:
            num_parts *= self.accelerator.num_processes
        return float(own / num_parts)

    @torch.no_grad()
    def _check_loss(self, model: Any, inputs: Any) -> None:
        """Compare our loss of the first batch with the one that the model itself makes of it.

        The model is given labels for its own loss, and for ours none, as when it is trained.
        """
        labels, name = inputs["labels"], type(self.model).__name__
        check_labels(labels)
        unlabelled = {key: value for key, value in inputs.items() if key != "labels"}
        model.eval()
        labelled = model(**inputs)
        with refusing_models_that_need_labels(name):
            outputs = model(**unlabelled)
        logits, labelled_logits = logits_of(outputs), found_logits(labelled)
        if labelled_logits is not None and labelled_logits.shape == logits.shape:
            check_same_logits(labelled_logits, logits, name)
            outputs = labelled  # whose logits the model's own loss is of
        losses, counts = self.sample_losses(outputs, labels)
        model.train()
        routers = routers_loss_of(labelled)
        of_routers = 0.0 if routers is None else router_coefficient(self.model) * float(routers)
        ours = (losses * counts).sum() / counts.sum()
        check_same_loss(own_loss_of(labelled), ours, name, of_routers)
        self._loss_is_checked = True


class PruningTrainer(PruningMixin, Trainer):
    """``transformers.Trainer`` with pruning; its arguments are those of :class:`PruningMixin`."""


def _is_hugging_face(dataset: Any) -> bool:
    import datasets

    return isinstance(dataset, datasets.Dataset)
