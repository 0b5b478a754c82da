"""What trains a run, whatever loop it has: the account it keeps, and what it leaves in its folder."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from infobatch import DynamicPruner, IndexedCollate, IndexedDataset
from infobatch.lab.config.train import PASS, TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.interrupts import ignore_interrupts
from infobatch.lab.processes import agree, replicas, total
from infobatch.lab.runs.environment import describe_environment
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.runs.quantiles import class_balance, quantiles, score_quantiles
from infobatch.lab.runs.records import VISIT_QUANTILES, EpochMetrics, Summary
from infobatch.lab.tasks.base import Evaluation, Task, Told
from infobatch.lab.tasks.metrics import Metric
from infobatch.lab.tasks.registry import KINDS
from infobatch.lab.training.gradient_noise import Noise, probe
from infobatch.lab.training.static_scores import scoring_epochs
from infobatch.scores.prior import PriorScores
from infobatch.scores.table import ScoreTable

CHECKPOINT_SECONDS = 60.0
STEPS_BETWEEN_PAUSES = 20
"""Several processes ask each other this often whether to pause."""


class Interrupted(Exception):
    """The user asked to stop; the run's checkpoint is written."""


@dataclass(frozen=True)
class Progress:
    """What a watcher is told after each epoch."""

    fraction: float
    metrics: EpochMetrics
    metric: Metric


Watch = Callable[[Progress], None]


class Engine(ABC):
    """One run of a task, from its checkpoint if it has one.

    ``pruner``: of the run; an engine makes it. ``loss_sum``: of the losses trained in the epoch under
    way, weighted, on this process. ``seconds``: those of scores made beforehand.
    """

    pruner: DynamicPruner

    def __init__(self, config: TrainConfig, data: Data, folder: RunFolder, seconds: float = 0.0) -> None:
        self.config = config
        self.folder = folder
        self.task: Task = KINDS[config.task].task()(config, data)
        self.metrics: list[EpochMetrics] = []
        self.loss_sum = torch.zeros((), device=self.task.device)
        self.lr = 0.0  # of the last step taken
        self.num_steps = 0
        self.seconds = seconds
        self.epoch_seconds = 0.0
        self.evaluation_seconds = 0.0
        self.last_saved = time.monotonic()
        self._evaluated: Evaluation | None = None  # at the end of the epoch under way

    @abstractmethod
    def run(self, watch: Watch, should_stop: Callable[[], bool]) -> Summary:
        """Train what is left of it; see :func:`infobatch.lab.training.loop.train`."""

    @property
    @abstractmethod
    def evaluated(self) -> nn.Module:
        """The model to evaluate and keep."""

    # -- What is known before the first epoch --------------------------------------------------------

    def known_scores(self, resumed: bool, pause: Callable[[], None]) -> PriorScores | None:
        """What --prior-scores asks for; None for a run that is ``resumed`` and has newer ones."""
        if resumed or not self.config.prior_scores:
            return None
        if self.config.prior_scores != PASS:
            return Path(self.config.prior_scores)
        with self._training_clock(wait=True):
            return self._losses_of_all(pause)

    def _losses_of_all(self, pause: Callable[[], None]) -> Tensor:
        """Of all training samples at the weights as they are, float32 (N,); NaN where there is none."""
        num_samples, here = len(self.task.feed.dataset), replicas()
        losses = torch.zeros(num_samples, device=self.task.device)
        self.task.begin(0)
        share = range(here.rank, num_samples, here.num_replicas)
        for step, (samples, told) in enumerate(self._looks(share)):
            if step % STEPS_BETWEEN_PAUSES == 0:
                pause()
            values = told.remembered.detach().float()
            if told.scored is not None:
                values = values.masked_fill(~told.scored, float("nan"))
            losses[torch.from_numpy(samples).to(losses.device)] = values
        return total(losses)

    def _looks(
        self, indices: Sequence[int], signals: Sequence[str] = ()
    ) -> Iterator[tuple[np.ndarray, Told]]:
        """Training samples, batch by batch, and what a forward pass tells of them."""
        loader = DataLoader(
            Subset(IndexedDataset(self.task.feed.dataset), indices),
            self.config.batch_size // replicas().num_replicas,
            collate_fn=IndexedCollate(self.task.feed.collate),
            num_workers=self.config.workers,
            pin_memory=self.task.device.type == "cuda",
            worker_init_fn=ignore_interrupts,
            generator=torch.Generator(),
        )
        for samples, inputs in loader:
            yield samples, self.task.look(self.task.inputs(inputs, samples), signals)

    # -- Its ends ------------------------------------------------------------------------------------

    def _counts(self, epoch: int) -> tuple[int, int]:
        """Samples trained in an epoch that ends, and those that had a forward pass alone."""
        return self.pruner.current.num_trained, 0

    def _mean_loss(self, loss_sum: float, epoch: int) -> float:
        """The estimate of the mean over all data, of the weighted sum over an epoch's samples."""
        if self.config.normalizer != "batch":
            loss_sum *= self.pruner.mean_weight  # which the weights were divided by
        return loss_sum / (self.pruner.plan.schedule.share(epoch) * self.pruner.num_samples)

    def _end_epoch(self, epoch: int) -> None:
        with self._training_clock(wait=True):
            num_kept, num_forward = self._counts(epoch)
        is_last = epoch + 1 == self.pruner.num_epochs
        result, noise = None, Noise()
        if is_last or (epoch + 1) % self.config.eval_every == 0:
            began = time.perf_counter()
            result = self.task.evaluate(self.evaluated)
            noise = self._probe(epoch + 1)
            self.evaluation_seconds += time.perf_counter() - began
        self._evaluated = result
        selection = self.pruner.selection
        self.metrics.append(
            EpochMetrics(
                epoch=epoch,
                num_kept=num_kept,
                num_samples=self.pruner.num_samples,
                train_loss=self._mean_loss(float(total(self.loss_sum)), epoch),
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
        if not self.config.probe or self._chooses_in_batches:
            return Noise()
        if epoch > last or not schedule.prunes(epoch):
            return Noise()
        self.task.begin(self.pruner.num_epochs + epoch)
        scores = self._merged_scores()
        return probe(self.pruner, scores, epoch, self.config.probe, self.task.gradients)

    @property
    def _chooses_in_batches(self) -> bool:
        """Whether a policy's selection does not tell whom the run trains: in selective backprop."""
        return self.config.backward_share < 1

    def _finish(self) -> Summary:
        result = self._evaluated or self.task.evaluate(self.evaluated)
        num_full = round(self.pruner.plan.schedule.run_length * self.pruner.num_samples)
        scores = self._merged_scores()
        visits = scores["visits"].double()
        members = None if self._chooses_in_batches else self.task.data.class_members
        num_looked = self.pruner.num_samples if self.config.prior_scores == PASS else 0
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
            visits=[] if self._chooses_in_batches else quantiles(visits, VISIT_QUANTILES),
            class_balance=class_balance(members, visits),
            num_forward=num_looked + sum(m.num_forward for m in self.metrics),
            num_scoring=scoring_epochs(self.config) * self.pruner.num_samples,
        )
        self._write(self.pruner.export, self.folder.scores_path)
        self._write(self.folder.save_model, self.evaluated)
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

    @contextmanager
    def _training_clock(self, wait: bool = False) -> Iterator[None]:
        """Count what happens inside as training; ``wait``: for the device to be done with it."""
        began = time.perf_counter()
        yield
        if wait and self.task.device.type == "cuda":
            torch.cuda.synchronize(self.task.device)
        self._count_seconds(time.perf_counter() - began)

    def _count_seconds(self, seconds: float) -> None:
        self.seconds += seconds
        self.epoch_seconds += seconds

    # -- State ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The account of what was trained; engines add what they train."""
        return {
            "config": self.config.to_json(),
            "loss_sum": total(self.loss_sum),
            "lr": self.lr,
            "num_steps": self.num_steps,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "num_epochs_done": len(self.metrics),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if replicas().rank == 0:
            self.loss_sum.copy_(state["loss_sum"])
        self.lr = state["lr"]
        self.num_steps = state["num_steps"]
        self.seconds = state["seconds"]
        self.epoch_seconds = state["epoch_seconds"]
        self.evaluation_seconds = state["evaluation_seconds"]
        self.metrics = agree(self.folder.metrics)[: state["num_epochs_done"]]
