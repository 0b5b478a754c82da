"""The training loop: a plain loop around the method's public calls."""

from __future__ import annotations

import copy
import os
import platform
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

import infobatch
from infobatch import DynamicPruner
from infobatch.lab.config import TrainConfig
from infobatch.lab.data import ImageData
from infobatch.lab.runs import SCORE_QUANTILES, EpochMetrics, RunFolder, Summary
from infobatch.lab.tasks.classification import Classification

CHECKPOINT_SECONDS = 60.0
WARM_UP_STEPS = 2


class Interrupted(Exception):
    """The user asked to stop; the run's checkpoint is written."""


@dataclass(frozen=True)
class Progress:
    """What a watcher is told after each epoch."""

    fraction: float
    metrics: EpochMetrics


def train(
    config: TrainConfig,
    data: ImageData,
    folder: RunFolder,
    watch: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Train one run into its folder, from its checkpoint if it has one.

    ``should_stop`` is asked at every step; if true, the checkpoint is written and ``Interrupted``
    raised.
    """
    if folder.finished:
        return folder.summary()
    return _Training(config, data, folder).run(watch, should_stop)


def check(config: TrainConfig, data: ImageData) -> None:
    """Raise ``ValueError`` if these options do not fit the data."""
    _make_pruner(config, data).loader(config.batch_size)


class _Training:
    def __init__(self, config: TrainConfig, data: ImageData, folder: RunFolder) -> None:
        self.folder = folder
        self.task = Classification(config, data)
        self.pruner = _make_pruner(config, data)
        self.loader = self.pruner.loader(
            config.batch_size,
            collate_fn=torch.tensor,
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
            pin_memory=self.task.device.type == "cuda",
            worker_init_fn=_ignore_interrupts,
        )
        self.optimizer = _make_optimizer(config, self.task.model)
        self.scheduler = self.pruner.lr_scheduler(
            OneCycleLR(
                self.optimizer,
                config.lr,
                total_steps=self.pruner.full_steps,
                pct_start=0.3,
                div_factor=25,
                final_div_factor=1e4,
            )
        )
        self.metrics: list[EpochMetrics] = []
        self.loss_sum = torch.zeros((), device=self.task.device)
        self.lr = 0.0  # of the last step taken
        self.num_steps = 0
        self.seconds = 0.0
        self.epoch_seconds = 0.0
        self.evaluation_seconds = 0.0
        state = folder.load_checkpoint()
        if state is not None:
            self.load_state_dict(state)

    def run(self, watch: Callable[[Progress], None], should_stop: Callable[[], bool]) -> Summary:
        self._warm_up()
        if self.pruner.current.finished and len(self.metrics) <= self.pruner.epoch:
            self._end_epoch(self.pruner.epoch)  # interrupted between its last step and its end
        last_saved = time.monotonic()
        with self._training_clock():
            epochs = self.pruner.epochs()
        while True:
            with self._training_clock():
                epoch = next(epochs, None)
            if epoch is None:
                break
            for _ in self._steps(epoch):
                if should_stop():
                    self.folder.save_checkpoint(self.state_dict())
                    raise Interrupted(str(self.folder.path))
                if time.monotonic() - last_saved > CHECKPOINT_SECONDS:
                    self.folder.save_checkpoint(self.state_dict())
                    last_saved = time.monotonic()
            self._end_epoch(epoch)
            watch(Progress(self.pruner.progress, self.metrics[-1]))
        return self._finish()

    def _steps(self, epoch: int) -> Iterator[None]:
        """Train the rest of an epoch; gives way at every step boundary, off the clock."""
        with self._training_clock():
            self.task.begin(epoch)
            batches = iter(self.loader)
        while True:
            with self._training_clock():
                batch = next(batches, None)
                if batch is not None:
                    self._step(*batch)
            if batch is None:
                return
            yield

    def _step(self, samples: Any, indices: Tensor) -> None:
        losses = self.task.losses(indices)
        loss = self.pruner.update(losses, samples)
        loss.backward()  # type: ignore[no-untyped-call]
        self.lr = float(self.scheduler.get_last_lr()[0])
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.loss_sum += loss.detach() * len(samples)
        self.num_steps += 1

    def _end_epoch(self, epoch: int) -> None:
        with self._training_clock(wait=True):
            pass
        began = time.perf_counter()
        result = self.task.evaluate()
        self.evaluation_seconds += time.perf_counter() - began
        current = self.pruner.current
        trained = sum(m.num_kept for m in self.metrics) + current.num_recorded
        represented = self.pruner.plan.schedule.share(epoch) * self.pruner.num_samples
        self.metrics.append(
            EpochMetrics(
                epoch=epoch,
                num_kept=current.num_recorded,
                num_samples=self.pruner.num_samples,
                train_loss=float(self.loss_sum) / represented,
                test_loss=result.loss,
                test_accuracy=result.accuracy,
                seconds=self.epoch_seconds,
                lr=self.lr,
                samples_so_far=trained,
                score_quantiles=_quantiles(self.pruner.scores["last_loss"]),
            )
        )
        self.folder.write_metrics(self.metrics)
        self.loss_sum.zero_()
        self.epoch_seconds = 0.0

    def _finish(self) -> Summary:
        result = self.task.evaluate()
        num_trained = sum(m.num_kept for m in self.metrics)
        num_full = round(self.pruner.plan.schedule.run_length * self.pruner.num_samples)
        summary = Summary(
            accuracy=result.accuracy,
            test_loss=result.loss,
            per_class=result.per_class,
            num_trained=num_trained,
            num_full=num_full,
            num_steps=self.num_steps,
            seconds=self.seconds,
            evaluation_seconds=self.evaluation_seconds,
            num_nonfinite=self.pruner.scores.num_nonfinite,
            environment=describe_environment(self.task.device),
        )
        self.pruner.export(self.folder.scores_path)
        self.folder.save_model(self.task.model)
        self.folder.write_summary(summary)
        self.folder.drop_checkpoint()
        return summary

    def _warm_up(self) -> None:
        """Run a few steps on a copy, so that one-time costs do not fall to whichever run is first."""
        trained = self.task.model
        self.task.model = copy.deepcopy(trained)
        self.task.begin(0)
        indices = torch.arange(min(self.pruner.num_samples, self.loader.batch_size))
        for _ in range(WARM_UP_STEPS):
            self.task.losses(indices).mean().backward()  # type: ignore[no-untyped-call]
        self.task.model = trained

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
            "model": self.task.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "pruner": self.pruner.state_dict(),
            "loss_sum": self.loss_sum.clone(),
            "lr": self.lr,
            "num_steps": self.num_steps,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "num_epochs_done": len(self.metrics),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.task.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.pruner.load_state_dict(state["pruner"])
        self.loss_sum.copy_(state["loss_sum"])
        self.lr = state["lr"]
        self.num_steps = state["num_steps"]
        self.seconds = state["seconds"]
        self.epoch_seconds = state["epoch_seconds"]
        self.evaluation_seconds = state["evaluation_seconds"]
        self.metrics = self.folder.metrics()[: state["num_epochs_done"]]


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether Ctrl-C was pressed; a second press stops at once."""
    pressed = False

    def note(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C is for the main process, which stops the workers at a step boundary."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def describe_environment(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {
        "infobatch": infobatch.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return f"{os.cpu_count()} cores, {names[0] if names else platform.machine()}"


def _make_pruner(config: TrainConfig, data: ImageData) -> DynamicPruner:
    return DynamicPruner(
        range(len(data.train)),
        config.epochs,
        policy=config.make_policy(),
        delta=config.delta,
        warmup_epochs=config.warmup_epochs,
        target=config.target,
        seed=config.seed,
    )


def _make_optimizer(config: TrainConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    parameters = model.parameters()
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(parameters, config.lr, momentum=0.9, weight_decay=config.weight_decay)


def _quantiles(losses: Tensor) -> list[float | None]:
    scored = losses[~losses.isnan()]
    if not len(scored):
        return [None] * len(SCORE_QUANTILES)
    part = scored[:: max(1, len(scored) // 1_000_000)]  # torch.quantile takes at most 2**24
    return [float(q) for q in part.quantile(torch.tensor(SCORE_QUANTILES))]
