"""The training loop: a plain loop around the method's public calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from infobatch import DynamicPruner
from infobatch.lab.config.policy_spec import make_policy
from infobatch.lab.config.train import PASS, TrainConfig, flag
from infobatch.lab.data import Data
from infobatch.lab.devices import resolve_device
from infobatch.lab.interrupts import ignore_interrupts
from infobatch.lab.processes import agree, replicas
from infobatch.lab.runs.folder import RunFolder, require_same
from infobatch.lab.runs.records import Summary
from infobatch.lab.tasks.base import Inputs
from infobatch.lab.tasks.registry import KINDS, metric_of
from infobatch.lab.training.engine import (
    CHECKPOINT_SECONDS,
    STEPS_BETWEEN_PAUSES,
    Engine,
    Interrupted,
    Progress,
    Watch,
)
from infobatch.lab.training.optimization import Optimization
from infobatch.lab.training.selective_backprop import SelectiveBackprop
from infobatch.lab.training.static_scores import StaticScores, static_scores
from infobatch.scores.prior import PriorScores

WARM_UP_STEPS = 3
"""CUDA graphs are recorded in the second call of a compiled network."""

ROWS = ("data", "subset", "held_out", "train_samples")
"""Options that say which samples are trained, and in which order they are numbered."""


class OutOfMemory(Exception):
    """The device has too little memory for these options."""


def train(
    config: TrainConfig,
    data: Data,
    folder: RunFolder,
    watch: Watch = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Train one run into its folder, from its checkpoint if it has one.

    ``should_stop`` is asked at every step; if true, the checkpoint is written and ``Interrupted``
    raised.
    """
    finished = agree(lambda: folder.summary() if folder.finished else None)
    if finished is not None:
        return finished

    def pause() -> None:
        if agree(should_stop):
            raise Interrupted(str(folder.path))

    try:
        scores = static_scores(config, data, folder, pause)
        engine = KINDS[config.task].engine()(config, data, folder, scores, pause)
        summary: Summary = engine.run(watch, should_stop)
        return summary
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory with {config.model} at batch size {config.batch_size} on "
            f"{resolve_device(config.device)}; lower --batch-size (and --lr with it)"
            + (", or give --precision bf16" if config.precision == "fp32" else "")
            + f". What was trained up to the last checkpoint is kept in {folder.path}"
        ) from error


def check(config: TrainConfig, data: Data) -> None:
    """Raise ``ValueError`` if these options do not fit the data or the processes."""
    num_replicas = replicas().num_replicas
    if config.batch_size % num_replicas:
        raise ValueError(
            f"--batch-size is {config.batch_size}, which {num_replicas} processes cannot share equally; "
            f"give a multiple of {num_replicas}"
        )
    if config.backward_share < 1 and num_replicas > 1:
        raise ValueError(
            f"--backward-share is {config.backward_share:g}, and there are {num_replicas} processes; "
            "selective backprop is for one: leave it out, or train on one process"
        )
    KINDS[config.task].task().check(config, data)
    unknown = torch.zeros(len(data.train))
    known = Path(config.prior_scores) if config.prior_scores not in ("", PASS) else None
    if known is not None:
        _check_rows(config, known)
    pruner = _make_pruner(config, data, unknown, known=known)
    pruner.loader(config.batch_size // num_replicas, drop_last=config.drop_last)


def _check_rows(config: TrainConfig, scores: Path) -> None:
    """Raise ``ValueError`` if the scores are in a run's folder, and its samples are not these."""
    source = RunFolder(scores.parent)
    if not source.exists:
        return
    theirs = source.config().differences(config)
    for name in ROWS:
        if name in theirs:
            other, ours = theirs[name]
            raise ValueError(
                f"--prior-scores {scores} are of a run with {flag(name)} {other}, and this one has "
                f"{flag(name)} {ours}: its rows are others; give scores of the same samples"
            )


def _is_out_of_memory(error: Exception) -> bool:
    is_cpu = "can't allocate memory" in str(error)  # PyTorch has no type of its own for the CPU's
    return is_cpu or isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))


class Loop(Engine):
    """A plain loop around the method's public calls."""

    def __init__(
        self,
        config: TrainConfig,
        data: Data,
        folder: RunFolder,
        scores: StaticScores,
        pause: Callable[[], None],
    ) -> None:
        super().__init__(config, data, folder, scores.seconds)
        state = agree(folder.load_checkpoint)
        known = self.known_scores(state is not None, pause)
        self.pruner = _make_pruner(config, data, scores.values, self.task.feed.dataset, known)
        self.loader = self.pruner.loader(
            config.batch_size // self.pruner.replicas.num_replicas,
            drop_last=config.drop_last,
            collate_fn=self.task.feed.collate,
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
            pin_memory=self.task.device.type == "cuda",
            worker_init_fn=ignore_interrupts,
        )
        self.optimization = Optimization(config, self.task.model, self.pruner)
        self.selective = None
        if config.backward_share < 1:
            shape = (self.pruner.num_samples, config.batch_size)
            self.selective = SelectiveBackprop(config.backward_share, *shape, config.seed)
        if state is not None:
            require_same(config, TrainConfig.from_json(state["config"]), folder.path)
            self.load_state_dict(state)

    @property
    def evaluated(self) -> nn.Module:
        return self.optimization.evaluated

    def run(self, watch: Watch, should_stop: Callable[[], bool]) -> Summary:
        self._warm_up()
        if self.pruner.current.finished and len(self.metrics) <= self.pruner.epoch:
            self._end_epoch(self.pruner.epoch)  # interrupted between its last step and its end
        with self._training_clock():
            epochs = self.pruner.epochs()
        while True:
            with self._training_clock():
                epoch = next(epochs, None)
            if epoch is None:
                break
            for _ in self._steps(epoch):
                self._pause(should_stop)
            self._end_epoch(epoch)
            watch(Progress(self.pruner.progress, self.metrics[-1], metric_of(self.config)))
        return self._finish()

    def _steps(self, epoch: int) -> Iterator[None]:
        """Train the rest of an epoch; gives way at every step boundary, off the clock."""
        with self._training_clock():
            self.task.begin(epoch)
            if self.selective is not None:
                self.selective.begin(epoch, self.task.device)
            batches = iter(self.loader)
            left = self.pruner.current.num_left
        while True:
            with self._training_clock():
                batch = next(batches, None)
                if batch is not None:
                    samples, inputs = batch
                    self._step(samples, inputs, min(left, self.config.batch_size))
                    left -= self.config.batch_size
            if batch is None:
                return
            yield

    def _step(self, samples: np.ndarray, inputs: Any, num_trained: int) -> None:
        """``num_trained``: the samples of this step over all processes."""
        taken = self.task.inputs(inputs, samples)
        if self._chooses(self.pruner.epoch):
            mean, loss = self._chosen(taken, samples)
        else:
            told = self.task.tell(taken, self.pruner.signals)
            mean = loss = self.pruner.update(
                told.losses, samples, told.scored, scores=told.scores, **told.signals
            )
        self.lr = self.optimization.lr
        self.optimization.step(loss)
        self.loss_sum += mean.detach() * (num_trained / self.pruner.replicas.num_replicas)
        self.num_steps += 1

    def _chooses(self, epoch: int) -> bool:
        """Whether only some of each batch are trained: in the epochs in which policies may prune."""
        return self.selective is not None and epoch in self.pruner.plan.schedule.prunable

    def _chosen(self, inputs: Inputs, samples: np.ndarray) -> tuple[Tensor, Tensor]:
        """The mean loss of a batch, without a gradient, and that of the samples chosen from it."""
        assert self.selective is not None
        with torch.no_grad():
            losses = self.task.tell(inputs).losses
        chosen = self.selective.choose(losses, samples, self.pruner.current.num_recorded)
        self.pruner.record(losses, samples)
        part = tuple(values[chosen] for values in inputs)
        return losses.mean(), self.task.tell(part).losses.mean()

    def _counts(self, epoch: int) -> tuple[int, int]:
        num_kept, num_forward = self.pruner.current.num_trained, self._look_at_left_out(epoch)
        if self.selective is not None and self._chooses(epoch):
            return self.selective.num_trained(epoch, num_kept), num_kept
        return num_kept, num_forward

    def _look_at_left_out(self, epoch: int) -> int:
        """Tell a policy that asks for it the losses of what was left out; of how many samples."""
        num_left_out = self.pruner.num_samples - self.pruner.selection.num_selected
        if num_left_out == 0 or not self.pruner.policy.refreshes:
            return 0
        self.task.begin(epoch)  # the epoch's augmentation, in a resumed run too
        signals = self.pruner.signals
        for samples, told in self._looks(self.pruner.left_out.tolist(), signals):
            self.pruner.observe(told.remembered, samples, told.scored, **told.signals)
        return num_left_out

    def _pause(self, should_stop: Callable[[], bool]) -> None:
        """Write a checkpoint if one is due, and stop if asked to; several processes do so together."""
        if self.pruner.replicas.num_replicas > 1 and self.num_steps % STEPS_BETWEEN_PAUSES:
            return
        due = time.monotonic() - self.last_saved > CHECKPOINT_SECONDS
        stop, due = agree(lambda: (should_stop(), due))
        if stop or due:
            self._write(self.folder.save_checkpoint, self.state_dict())
            self.last_saved = time.monotonic()
        if stop:
            raise Interrupted(str(self.folder.path))

    def _warm_up(self) -> None:
        """Take a few steps, and take them back, so that one-time costs fall to no run's clock."""
        self.task.begin(0)
        size = self.config.batch_size // self.pruner.replicas.num_replicas
        batch = self.task.feed.first(size)
        samples = np.arange(min(size, self.pruner.num_samples))
        with self.task.on_a_copy():
            for _ in range(WARM_UP_STEPS):
                self.task.losses(batch, samples).mean().backward()  # type: ignore[no-untyped-call]
                self.task.model.zero_grad()  # with CUDA graphs, the next call overwrites gradients

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "model": self.task.model.state_dict(),
            "task": self.task.state_dict(),
            "optimization": self.optimization.state_dict(),
            "pruner": self.pruner.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.task.model.load_state_dict(state["model"])
        self.task.load_state_dict(state.get("task", {}))  # older releases wrote none
        self.optimization.load_state_dict(state["optimization"])
        self.pruner.load_state_dict(state["pruner"])


def protected_samples(config: TrainConfig, data: Data) -> Tensor | None:
    """Which training samples are kept in every epoch, bool (N,); None where policies decide on all."""
    share = config.segmentation.protect
    return data.with_rare_classes(share) if share else None


def _make_pruner(
    config: TrainConfig,
    data: Data,
    scores: Tensor | None,
    dataset: Any = None,
    known: PriorScores | None = None,
) -> DynamicPruner:
    """``scores``: those of a policy that goes by scores made beforehand; ``known``: prior scores."""
    return DynamicPruner(
        range(len(data.train)) if dataset is None else dataset,
        config.epochs,
        **pruning(config, data, scores, known),
    )


def pruning(
    config: TrainConfig, data: Data, scores: Tensor | None, known: PriorScores | None
) -> dict[str, Any]:
    """The options of a run's pruner, but for its data and its length."""
    return {
        "policy": make_policy(config, data.train_labels, scores, protected_samples(config, data)),
        "delta": config.delta,
        "warmup_epochs": config.warmup_epochs,
        "target": config.target,
        "ramp": config.ramp if isinstance(config.target, float) else 0.0,
        "seed": config.seed,
        "normalizer": config.normalizer,
        "prior_scores": known,
    }


__all__ = ["Interrupted", "Loop", "OutOfMemory", "Progress", "check", "pruning", "train"]
