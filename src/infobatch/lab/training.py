"""The training loop: a plain loop around the method's public calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from infobatch import DynamicPruner, IndexedCollate, IndexedDataset
from infobatch.lab.config import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.diagnostics import Noise, probe
from infobatch.lab.environment import describe_environment
from infobatch.lab.interrupts import ignore_interrupts
from infobatch.lab.metrics import Metric
from infobatch.lab.optimization import Optimization
from infobatch.lab.processes import agree, replicas, total
from infobatch.lab.quantiles import class_balance, quantiles, score_quantiles
from infobatch.lab.runs import VISIT_QUANTILES, EpochMetrics, RunFolder, Summary, require_same
from infobatch.lab.selective_backprop import SelectiveBackprop
from infobatch.lab.static_scores import StaticScores, has_static_scores, scoring_epochs, static_scores
from infobatch.lab.tasks.base import Evaluation, Inputs
from infobatch.lab.tasks.kinds import KINDS, metric_of
from infobatch.scores import ScoreTable

CHECKPOINT_SECONDS = 60.0
STEPS_BETWEEN_PAUSES = 20
"""Several processes ask each other this often whether to pause."""
WARM_UP_STEPS = 3
"""CUDA graphs are recorded in the second call of a compiled network."""


class Interrupted(Exception):
    """The user asked to stop; the run's checkpoint is written."""


class OutOfMemory(Exception):
    """The device has too little memory for these options."""


@dataclass(frozen=True)
class Progress:
    """What a watcher is told after each epoch."""

    fraction: float
    metrics: EpochMetrics
    metric: Metric


def train(
    config: TrainConfig,
    data: Data,
    folder: RunFolder,
    watch: Callable[[Progress], None] = lambda progress: None,
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
        return _Training(config, data, folder, scores).run(watch, should_stop)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory with {config.model} at batch size {config.batch_size} on "
            f"{config.torch_device()}; lower --batch-size (and --lr with it)"
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
    kind = KINDS[config.task]
    kind.check_data(config, data)
    if has_static_scores(config) and kind.place != KINDS["classification"].place:
        raise ValueError(
            f"--policy {config.policy} goes by scores of a classifier, and --task is {config.task}; "
            "take another policy"
        )
    unknown = torch.zeros(len(data.train))
    pruner = _make_pruner(config, data, unknown)
    for signal in pruner.signals:
        if signal not in kind.signals:
            raise ValueError(
                f"--policy {config.policy} reads {signal.replace('_', ' ')}, and --task {config.task} "
                "has none; take another policy, or another column"
            )
    pruner.loader(config.batch_size // num_replicas, drop_last=config.drop_last)


def _is_out_of_memory(error: Exception) -> bool:
    is_cpu = "can't allocate memory" in str(error)  # PyTorch has no type of its own for the CPU's
    return is_cpu or isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))


class _Training:
    def __init__(self, config: TrainConfig, data: Data, folder: RunFolder, scores: StaticScores) -> None:
        self.config = config
        self.folder = folder
        self.task = KINDS[config.task].task()(config, data)
        self.pruner = _make_pruner(config, data, scores.values, self.task.feed.dataset)
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
        self.metrics: list[EpochMetrics] = []
        self.loss_sum = torch.zeros((), device=self.task.device)
        self.lr = 0.0  # of the last step taken
        self.num_steps = 0
        self.seconds = scores.seconds
        self.epoch_seconds = 0.0
        self.evaluation_seconds = 0.0
        self.evaluation: Evaluation | None = None  # of the epoch that ended last
        self.last_saved = time.monotonic()
        state = agree(folder.load_checkpoint)
        if state is not None:
            require_same(config, TrainConfig.from_json(state["config"]), folder.path)
            self.load_state_dict(state)

    def run(self, watch: Callable[[Progress], None], should_stop: Callable[[], bool]) -> Summary:
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
            left = len(self.pruner.current.resume_order)
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

    def _look_at_left_out(self, epoch: int) -> int:
        """Tell a policy that asks for it the losses of what was left out; of how many samples."""
        num_left_out = self.pruner.num_samples - self.pruner.selection.num_selected
        if num_left_out == 0 or not self.pruner.policy.refreshes:
            return 0
        self.task.begin(epoch)  # the epoch's augmentation, in a resumed run too
        loader = DataLoader(
            Subset(IndexedDataset(self.task.feed.dataset), self.pruner.left_out.tolist()),
            self.config.batch_size // self.pruner.replicas.num_replicas,
            collate_fn=IndexedCollate(self.task.feed.collate),
            num_workers=self.config.workers,
            pin_memory=self.task.device.type == "cuda",
            worker_init_fn=ignore_interrupts,
            generator=torch.Generator(),
        )
        for samples, inputs in loader:
            told = self.task.look(self.task.inputs(inputs, samples), self.pruner.signals)
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

    def _end_epoch(self, epoch: int) -> None:
        with self._training_clock(wait=True):
            num_forward = self._look_at_left_out(epoch)
        is_last = epoch + 1 == self.pruner.num_epochs
        result, noise = None, Noise()
        if is_last or (epoch + 1) % self.config.eval_every == 0:
            began = time.perf_counter()
            result = self.task.evaluate(self.optimization.evaluated)
            noise = self._probe(epoch + 1)
            self.evaluation_seconds += time.perf_counter() - began
        self.evaluation = result
        selection = self.pruner.selection
        num_kept = len(self.pruner.current.order)
        if self.selective is not None and self._chooses(epoch):
            num_kept, num_forward = self.selective.num_trained(epoch, num_kept), num_kept
        represented = self.pruner.plan.schedule.share(epoch) * self.pruner.num_samples
        self.metrics.append(
            EpochMetrics(
                epoch=epoch,
                num_kept=num_kept,
                num_samples=self.pruner.num_samples,
                train_loss=float(total(self.loss_sum)) / represented,
                test_loss=result.loss if result else None,
                result=result.result if result else None,
                seconds=self.epoch_seconds,
                lr=self.lr,
                samples_so_far=sum(m.num_kept for m in self.metrics) + num_kept,
                score_quantiles=score_quantiles(self._merged_scores()["last_loss"]),
                effective_share=(
                    selection.effective_share
                    if selection.num_selected < self.pruner.num_samples
                    else None
                ),
                noise_ratio=noise.ratio,
                bias=noise.bias,
                num_forward=num_forward,
            )
        )
        self._write(self.folder.write_metrics, self.metrics)
        self.loss_sum.zero_()
        self.epoch_seconds = 0.0

    def _probe(self, epoch: int) -> Noise:
        """The noise of a coming epoch, on images as no epoch has them; none if nothing is pruned."""
        last, schedule = self.pruner.num_epochs - 1, self.pruner.plan.schedule
        if not self.config.probe or epoch > last or not schedule.prunes(epoch):
            return Noise()
        self.task.begin(self.pruner.num_epochs + epoch)
        scores = self._merged_scores()
        return probe(self.pruner, scores, epoch, self.config.probe, self.task.gradients)

    def _finish(self) -> Summary:
        result = self.evaluation or self.task.evaluate(self.optimization.evaluated)
        num_full = round(self.pruner.plan.schedule.run_length * self.pruner.num_samples)
        scores = self._merged_scores()
        visits = scores["visits"].double()
        summary = Summary(
            result=result.result,
            details=dict(result.details),
            test_loss=result.loss,
            per_class=list(result.per_class),
            num_trained=sum(m.num_kept for m in self.metrics),
            num_full=num_full,
            num_steps=self.num_steps,
            seconds=self.seconds,
            evaluation_seconds=self.evaluation_seconds,
            num_nonfinite=scores.num_nonfinite,
            environment=describe_environment(self.task.device),
            visits=quantiles(visits, VISIT_QUANTILES),
            class_balance=class_balance(self.task.data.class_members, visits),
            num_forward=sum(m.num_forward for m in self.metrics),
            num_scoring=scoring_epochs(self.config) * self.pruner.num_samples,
        )
        self._write(self.pruner.export, self.folder.scores_path)
        self._write(self.folder.save_model, self.optimization.evaluated)
        self._write(self.folder.write_summary, summary)
        self._write(RunFolder.drop_checkpoint, self.folder)
        return summary

    def _write(self, write: Callable[[Any], Any], what: Any) -> None:
        """Files are the first process's."""
        if self.pruner.replicas.rank == 0:
            write(what)

    def _merged_scores(self) -> ScoreTable:
        """The scores that any process recorded."""
        if self.pruner.replicas.num_replicas > 1:
            self.pruner.state_dict()  # merges
        return self.pruner.scores

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

    @contextmanager
    def _training_clock(self, wait: bool = False) -> Iterator[None]:
        """Count what happens inside as training; ``wait``: for the device to be done with it."""
        began = time.perf_counter()
        yield
        if wait and self.task.device.type == "cuda":
            torch.cuda.synchronize(self.task.device)
        elapsed = time.perf_counter() - began
        self.seconds += elapsed
        self.epoch_seconds += elapsed

    def state_dict(self) -> dict[str, Any]:
        return {
            "config": self.config.to_json(),
            "model": self.task.model.state_dict(),
            "optimization": self.optimization.state_dict(),
            "pruner": self.pruner.state_dict(),
            "loss_sum": total(self.loss_sum),
            "lr": self.lr,
            "num_steps": self.num_steps,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "num_epochs_done": len(self.metrics),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.task.model.load_state_dict(state["model"])
        self.optimization.load_state_dict(state["optimization"])
        self.pruner.load_state_dict(state["pruner"])
        if self.pruner.replicas.rank == 0:
            self.loss_sum.copy_(state["loss_sum"])
        self.lr = state["lr"]
        self.num_steps = state["num_steps"]
        self.seconds = state["seconds"]
        self.epoch_seconds = state["epoch_seconds"]
        self.evaluation_seconds = state["evaluation_seconds"]
        self.metrics = agree(self.folder.metrics)[: state["num_epochs_done"]]


def _make_pruner(
    config: TrainConfig, data: Data, scores: Tensor | None, dataset: Any = None
) -> DynamicPruner:
    return DynamicPruner(
        range(len(data.train)) if dataset is None else dataset,
        config.epochs,
        policy=config.make_policy(data.train_labels, scores),
        delta=config.delta,
        warmup_epochs=config.warmup_epochs,
        target=config.target,
        ramp=config.ramp if isinstance(config.target, float) else 0.0,
        seed=config.seed,
        normalizer=config.normalizer,
    )
