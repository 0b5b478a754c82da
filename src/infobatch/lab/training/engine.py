"""What trains a run, whatever loop it has: the account it keeps, and what it leaves in its folder."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from infobatch import DynamicPruner
from infobatch.lab.config.train import PASS, TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.processes import agree, replicas, total
from infobatch.lab.runs.environment import describe_environment
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.runs.records import VISIT_QUANTILES, EpochMetrics, Summary
from infobatch.lab.runs.sample_statistics import class_balance, quantiles, score_quantiles
from infobatch.lab.tasks.base import Evaluation, Task
from infobatch.lab.tasks.metrics import Metric
from infobatch.lab.tasks.registry import TASKS, metric_of
from infobatch.lab.training.forward_passes import losses_of_all
from infobatch.lab.training.gradient_noise import Noise, measure_noise
from infobatch.lab.training.pauses import Pauses
from infobatch.lab.training.recording import record_to
from infobatch.lab.training.scoring_costs import scoring_epochs
from infobatch.lab.training.static_scores import StaticScores
from infobatch.scores.prior import PriorScores
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True)
class Progress:
    """How far a run is, after each epoch.

    Args:
        fraction: The fraction of the training done, in [0, 1].
        metrics: What was recorded of the epoch.
        metric: What the run is judged by.
    """

    fraction: float
    metrics: EpochMetrics
    metric: Metric


Watch = Callable[[Progress], None]


class Engine(ABC):
    """One run of a task, from its checkpoint if it has one.

    A subclass makes ``pruner``, and adds the weighted losses that it trains on to ``loss_sum``, which
    is of the epoch under way on this rank.

    Args:
        config: The run's options.
        data: What it trains and is tested on.
        folder: Where it leaves its files.
        scores: The scores of a static policy, made before the run.
        pauses: Decides between steps whether to write a checkpoint, and whether to stop.
    """

    pruner: DynamicPruner

    def __init__(
        self, config: TrainConfig, data: Data, folder: RunFolder, scores: StaticScores, pauses: Pauses
    ) -> None:
        self.config = config
        self.folder = folder
        self.pauses = pauses
        self.task: Task = TASKS[config.task].load()(config, data)
        self.metrics: list[EpochMetrics] = []
        self.loss_sum = torch.zeros((), device=self.task.device)
        self.lr = 0.0  # of the last step taken
        self.num_steps = 0
        self.seconds = scores.seconds
        self.epoch_seconds = 0.0
        self.evaluation_seconds = 0.0
        self._evaluation: Evaluation | None = None  # at the end of the epoch under way

    @abstractmethod
    def run(self, watch: Watch) -> Summary:
        """Train what is left of the run.

        Args:
            watch: Called after each epoch.

        Returns:
            The finished run's summary.

        Raises:
            Interrupted: If the user asked to stop.
        """

    @property
    @abstractmethod
    def eval_model(self) -> nn.Module:
        """The model to evaluate and keep."""

    # -- Before the first epoch ----------------------------------------------------------------------

    def prior_scores(self, resumed: bool) -> PriorScores | None:
        """The losses known before the first epoch; None for a resumed run, which has newer ones."""
        if resumed or not self.config.prior_scores:
            return None
        if self.config.prior_scores != PASS:
            return Path(self.config.prior_scores)
        with self._training_clock(wait=True):
            return losses_of_all(self.task, self.pauses.pause)

    def record_to(self, resumed: bool) -> Path | None:
        """Where epochs are recorded, if they are; a run that begins anew removes what is there."""
        return record_to(self.config, self.folder, resumed)

    # -- The end of an epoch -------------------------------------------------------------------------

    def _end_interrupted_epoch(self) -> None:
        """End the epoch of a run that was interrupted between an epoch's last step and its end."""
        if self.pruner.current.finished and len(self.metrics) <= self.pruner.epoch:
            self._end_epoch(self.pruner.epoch)

    def _end_epoch(self, epoch: int) -> None:
        """Evaluate the model where that is due, and record the epoch."""
        with self._training_clock(wait=True):
            num_kept, num_forward = self._end_training(epoch)
        # Evaluate.
        evaluation, noise = None, Noise()
        is_last = epoch + 1 == self.pruner.num_epochs
        if is_last or (epoch + 1) % self.config.eval_every == 0:
            began = time.perf_counter()
            evaluation = self.task.evaluate(self.eval_model)
            noise = self._measure_noise(epoch + 1)
            self.evaluation_seconds += time.perf_counter() - began
        self._evaluation = evaluation
        # Record.
        selection = self.pruner.selection
        is_pruned = selection.num_selected < self.pruner.num_samples
        self.metrics.append(
            EpochMetrics(
                epoch=epoch,
                num_kept=num_kept,
                num_samples=self.pruner.num_samples,
                train_loss=self._mean_loss(float(total(self.loss_sum)), epoch),
                test_loss=evaluation.loss if evaluation else None,
                result=evaluation.result if evaluation else None,
                seconds=self.epoch_seconds,
                lr=self.lr,
                samples_so_far=sum(m.num_kept for m in self.metrics) + num_kept,
                score_quantiles=score_quantiles(self._merged_scores()["last_loss"]),
                effective_share=selection.effective_share if is_pruned else None,
                noise_ratio=noise.ratio,
                bias=noise.bias,
                num_forward=num_forward,
            )
        )
        self._note_noise()
        self._on_first_rank(self.folder.write_metrics, self.metrics)
        self.loss_sum.zero_()
        self.epoch_seconds = 0.0

    def _note_noise(self) -> None:
        """Record the noise of pruned epochs, known at their end; on several ranks one epoch later."""
        noises = {counts.epoch: counts.noise for counts in self.pruner.report().epochs}
        self.metrics = [
            m if m.effective_share is None else replace(m, noise=noises.get(m.epoch))
            for m in self.metrics
        ]

    def _end_training(self, epoch: int) -> tuple[int, int]:
        """Finish an epoch's training; the samples trained, and those that had a forward pass alone."""
        return self.pruner.current.num_trained, 0

    def _mean_loss(self, loss_sum: float, epoch: int) -> float:
        """The estimate of the mean over all data, of the weighted sum over an epoch's samples."""
        loss_sum *= self._divisor
        return loss_sum / (self.pruner.plan.schedule.share(epoch) * self.pruner.num_samples)

    @property
    def _divisor(self) -> float:
        """What the weights of the epoch's samples were divided by, before the means of its batches."""
        if self.config.normalizer == "weights":
            return self.pruner.current.mean_weight
        if self.config.normalizer == "mean" or self.pruner.plan.shrink:
            return self.pruner.weight_divisor
        return self.pruner.mean_weight

    def _measure_noise(self, epoch: int) -> Noise:
        """The noise of a coming epoch; none if it is not asked for or nothing is pruned.

        The samples are augmented as in no epoch of the run.
        """
        if not self.config.probe or self._selects_within_batches:
            return Noise()
        if epoch >= self.pruner.num_epochs or not self.pruner.plan.schedule.prunes(epoch):
            return Noise()
        self.task.begin(self.pruner.num_epochs + epoch)
        scores = self._merged_scores()
        return measure_noise(self.pruner, scores, epoch, self.config.probe, self.task.gradients)

    @property
    def _selects_within_batches(self) -> bool:
        """Whether it is not the policy that selects what is trained: in selective backprop."""
        return self.config.backward_share < 1

    def _progress(self) -> Progress:
        """How far the run is, after an epoch."""
        return Progress(self.pruner.progress, self.metrics[-1], metric_of(self.config))

    # -- The end of the run --------------------------------------------------------------------------

    def _finish(self) -> Summary:
        """Evaluate the model if the last epoch did not, and leave the finished run's files."""
        evaluation = self._evaluation or self.task.evaluate(self.eval_model)
        scores = self._merged_scores()
        visits = scores["visits"].double()
        members = None if self._selects_within_batches else self.task.data.class_members
        noises = [m.noise for m in self.metrics if m.noise is not None]
        num_prior = self.pruner.num_samples if self.config.prior_scores == PASS else 0
        summary = Summary(
            result=evaluation.result,
            details=dict(evaluation.details),
            test_loss=evaluation.loss,
            per_class=list(evaluation.per_class),
            num_trained=sum(m.num_kept for m in self.metrics),
            num_full=self.pruner.report().num_full,
            num_steps=self.num_steps,
            seconds=self.seconds,
            evaluation_seconds=self.evaluation_seconds,
            num_nonfinite=scores.num_nonfinite,
            environment=describe_environment(self.task.device),
            visits=[] if self._selects_within_batches else quantiles(visits, VISIT_QUANTILES),
            class_balance=class_balance(members, visits),
            num_forward=num_prior + sum(m.num_forward for m in self.metrics),
            num_scoring=scoring_epochs(self.config) * self.pruner.num_samples,
            mean_noise=fmean(noises) if noises else None,
            most_noise=max(noises, default=None),
        )
        self._on_first_rank(self.pruner.export, self.folder.scores_path)
        self._on_first_rank(self.folder.save_model, self.eval_model)
        self._on_first_rank(self.folder.write_summary, summary)
        self._on_first_rank(RunFolder.drop_checkpoint, self.folder)
        return summary

    # -- Helpers -------------------------------------------------------------------------------------

    def _on_first_rank(self, write: Callable[[Any], Any], what: Any) -> None:
        """Write a file, which the first rank does for all."""
        if self.pruner.replicas.rank == 0:
            write(what)

    def _merged_scores(self) -> ScoreTable:
        """The scores that any rank recorded."""
        if self.pruner.replicas.num_replicas > 1:
            self.pruner.state_dict()  # merges
        return self.pruner.scores

    @contextmanager
    def _training_clock(self, wait: bool = False) -> Iterator[None]:
        """Count what happens inside as training, and if asked ``wait`` until the device has done it."""
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
        """The account of what was trained; engines add what they train. Call it on every rank."""
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
        """Go on where a state was taken.

        Args:
            state: What :meth:`state_dict` returned.
        """
        if replicas().rank == 0:
            self.loss_sum.copy_(state["loss_sum"])
        self.lr = state["lr"]
        self.num_steps = state["num_steps"]
        self.seconds = state["seconds"]
        self.epoch_seconds = state["epoch_seconds"]
        self.evaluation_seconds = state["evaluation_seconds"]
        self.metrics = agree(lambda: self.folder.first_metrics(state["num_epochs_done"]))
