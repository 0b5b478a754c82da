"""The engine of tasks that the Hugging Face Trainer trains, through its integration.

Options mean what they mean in the plain loop: the optimizer, the schedule, clipping, precision. A run is
resumed from the Trainer's own checkpoints, and the run's account is kept beside them.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, TrainerCallback, TrainingArguments
from transformers.utils import logging

from infobatch.integrations.transformers import PruningTrainer
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.devices import resolve_device, resolve_precision
from infobatch.lab.files import load_tensors, naming_damaged, naming_unwritten
from infobatch.lab.processes import agree, replicas
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.runs.records import Summary
from infobatch.lab.runs.same_options import require_same
from infobatch.lab.tasks.tokens import TokenData
from infobatch.lab.training.engine import Engine, Watch
from infobatch.lab.training.optimization import one_cycle
from infobatch.lab.training.optimizers import make_optimizer
from infobatch.lab.training.pauses import Pauses
from infobatch.lab.training.pruner_options import pruner_options
from infobatch.lab.training.static_scores import StaticScores
from infobatch.losses import NOT_SUPERVISED

ACCOUNT = "account.pt"
"""The file with the engine's state, in the folder of each of the Trainer's checkpoints."""


class TrainerEngine(Engine):
    """Trains a run by :class:`PruningTrainer`, whose callbacks call this engine.

    Args:
        config: The run's options.
        data: The examples that it trains and is tested on.
        folder: Where it leaves its files.
        scores: The scores of a static policy, made before the run.
        pauses: Decides between steps whether to write a checkpoint, and whether to stop.
    """

    def __init__(
        self, config: TrainConfig, data: Data, folder: RunFolder, scores: StaticScores, pauses: Pauses
    ) -> None:
        super().__init__(config, data, folder, scores, pauses)
        assert isinstance(data, TokenData)
        self._num_tokens = data.num_train_tokens
        self._checkpoint = agree(lambda: _last_checkpoint(folder.trainer_path))
        prior = self.prior_scores(resumed=self._checkpoint is not None)
        options = pruner_options(config, data, scores.values, prior)
        options["record_to"] = self.record_to(resumed=self._checkpoint is not None)
        optimizer = make_optimizer(config.optimizer, self.task.model, config.lr, config.weight_decay)
        self._trainer = _Trainer(
            model=self.task.model,
            args=arguments(config, folder.trainer_path),
            train_dataset=self.task.feed.dataset,
            data_collator=self.task.feed.collate,
            optimizers=(optimizer, None),
            callbacks=[_Steps(self)],
            pruning={name: value for name, value in options.items() if name != "normalizer"},
        )
        self._trainer.engine = self
        logging.disable_progress_bar()  # of the files of a checkpoint
        self._trainer.remove_callback(PrinterCallback)
        self._trainer.lr_scheduler = one_cycle(optimizer, config.lr, self._trainer.full_run)
        if self._checkpoint is not None:
            path, remedy = self._checkpoint / ACCOUNT, f"remove {self._checkpoint}"
            state = load_tensors(path, remedy)
            with naming_damaged(path, remedy):
                there = TrainConfig.from_json(state["config"])
            require_same(config, there, folder.path)
            with naming_damaged(path, remedy):
                self.load_state_dict(state)

    @property
    def eval_model(self) -> nn.Module:
        return self.task.model

    def run(self, watch: Watch) -> Summary:
        self._watch, self._stopped = watch, False
        checkpoint = None if self._checkpoint is None else str(self._checkpoint)
        self._trainer.train(resume_from_checkpoint=checkpoint)
        if self._stopped:
            raise self.pauses.interrupted()
        return self._finish()

    # -- What the Trainer calls ------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin or resume the training, once the Trainer has made its pruner."""
        self.pruner = self._trainer.pruner
        self._end_interrupted_epoch()
        self.start_clock()

    def add_loss(self, loss: Tensor, num_tokens: Tensor) -> None:
        """Add a batch's loss to the epoch's.

        Args:
            loss: The weighted sum over the batch's tokens, divided by their number.
            num_tokens: Their number.
        """
        self.loss_sum += loss.detach() * num_tokens

    def end_step(self, lr: float) -> tuple[bool, bool]:
        """Note a step, and decide on a pause.

        Args:
            lr: The step's learning rate.

        Returns:
            Whether to write a checkpoint, and whether to stop after it.
        """
        self.lr = lr
        self.num_steps += 1
        should_save, self._stopped = self.pauses.decide()
        return should_save, self._stopped

    def end_epoch(self) -> None:
        """End an epoch, unless the Trainer calls because it was stopped within it."""
        self.stop_clock()
        if not self._stopped:
            self._end_epoch(self.pruner.epoch)
            self._watch(self._progress())
        self.start_clock()

    def start_clock(self) -> None:
        """Count what follows as training."""
        self._began = time.perf_counter()

    def stop_clock(self) -> None:
        """Count what follows no more."""
        self._count_seconds(time.perf_counter() - self._began)

    def _mean_loss(self, loss_sum: float, epoch: int) -> float:
        """The estimate of the mean over all data of a token's loss, as the test loss is one."""
        loss_sum *= self._divisor
        return loss_sum / (self.pruner.plan.schedule.share(epoch) * self._num_tokens)


class _Trainer(PruningTrainer):
    """Passes losses and checkpoints on to the engine."""

    engine: TrainerEngine

    @property
    def full_run(self) -> int:
        """The steps that the run would have on full data."""
        return self._full_run

    def _weighted_loss(
        self,
        indices: Any,
        outputs: Any,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        num_items = num_items_in_batch
        if num_items is None:
            counted = labels[:, 1:].ne(NOT_SUPERVISED).sum()
            num_items = self._items_in(labels, indices, counted)
        loss = super()._weighted_loss(indices, outputs, labels, num_items)
        self.engine.add_loss(loss, torch.as_tensor(num_items, device=loss.device))
        return loss

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        engine = self.engine
        engine.stop_clock()
        state = engine.state_dict()  # on every rank
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with naming_unwritten(folder):
            if self.args.should_save:
                folder.mkdir(parents=True, exist_ok=True)
                torch.save(state, folder / ACCOUNT)
            super()._save_checkpoint(model, trial)
        engine.pauses.note_checkpoint()
        engine.start_clock()


class _Steps(TrainerCallback):  # type: ignore[misc]
    """Calls the engine at the Trainer's events."""

    def __init__(self, engine: TrainerEngine) -> None:
        self._engine = engine
        self._lr = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._engine.begin()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._lr = float(parts["optimizer"].param_groups[0]["lr"])  # the schedule moves after it

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        control.should_save, should_stop = self._engine.end_step(self._lr)
        control.should_training_stop = control.should_training_stop or should_stop

    def on_epoch_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._engine.end_epoch()


def arguments(config: TrainConfig, path: Path) -> TrainingArguments:
    """Translate a run's options into the Trainer's, which saves only when told to and reports nothing.

    Args:
        config: The run's options.
        path: Where the Trainer keeps its checkpoints.

    Returns:
        The Trainer's arguments.
    """
    device, num_replicas = resolve_device(config.device), replicas().num_replicas
    size = config.batch_size // num_replicas
    micro_batch = min(config.tuning.micro_batch or size, size)
    made = TrainingArguments(
        output_dir=str(path),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=size // micro_batch,
        max_grad_norm=config.clip_norm,
        label_smoothing_factor=config.label_smoothing,
        bf16=resolve_precision(config.precision, device) == "bf16",
        fp16=config.precision == "fp16",
        seed=config.seed,
        use_cpu=device.type == "cpu",
        ddp_backend="gloo" if device.type == "cpu" and num_replicas > 1 else None,
        ddp_find_unused_parameters=False,
        dataloader_drop_last=config.drop_last,
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        save_strategy="no",
        save_total_limit=1,
        logging_strategy="no",
        logging_nan_inf_filter=False,  # it would wait for the device in every step
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )
    if device.type == "cuda" and made.device is not None:
        made._n_gpu = 1  # else one process would train on all devices that it sees
    return made


def _last_checkpoint(path: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    numbered = sorted(path.glob("checkpoint-*"), key=lambda each: -int(each.name.split("-")[1]))
    return next((each for each in numbered if _is_whole(each)), None)


def _is_whole(checkpoint: Path) -> bool:
    """Whether what the Trainer writes last is there."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
    return (checkpoint / ACCOUNT).exists()
