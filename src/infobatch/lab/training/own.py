"""Runs that a training function of the user's trains: what it is given, and what is recorded of them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from infobatch import DynamicPruner
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.data.own import OwnData
from infobatch.lab.functions import load_function, reason_of
from infobatch.lab.processes import replicas
from infobatch.lab.runs.environment import describe_environment
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.runs.records import VISIT_QUANTILES, EpochMetrics, Summary
from infobatch.lab.runs.sample_statistics import quantiles, score_quantiles
from infobatch.lab.tasks.registry import metric_of
from infobatch.lab.training.engine import Progress, Watch
from infobatch.lab.training.pauses import Pauses
from infobatch.lab.training.pruner_options import pruner_options
from infobatch.lab.training.recording import record_to
from infobatch.lab.training.static_scores import StaticScores

SMALL = 10.0
"""Percentages of up to this much are told of: they may be shares, or losses."""


class OwnRun:
    """One run of a comparison, as a training function gets it.

    Seeds, epochs, batch sizes and learning rates differ from run to run: take them from here, and the
    pruner as well.

    Args:
        config: The run's options.
        pauses: Decides between steps whether to stop.
        watch: Called after each epoch.
        record_to: Where the run's epochs are recorded; None where they are not.
    """

    def __init__(
        self, config: TrainConfig, pauses: Pauses, watch: Watch, record_to: Path | None = None
    ) -> None:
        self._config = config
        self._record_to = record_to
        self._pauses = pauses
        self._watch = watch
        self.made: WatchedPruner | None = None
        self.lr_was_read = False

    @property
    def seed(self) -> int:
        """The run's seed, for ``torch.manual_seed`` before the model is made."""
        return self._config.seed

    @property
    def epochs(self) -> float:
        """The run's length; a fraction cuts its last epoch short."""
        return self._config.epochs

    @property
    def batch_size(self) -> int:
        """Samples in a batch, over all processes together."""
        return self._config.batch_size

    @property
    def lr(self) -> float:
        """The learning rate, or the highest of a schedule."""
        self.lr_was_read = True
        return self._config.lr

    @property
    def device(self) -> str:
        """What ``--device`` says."""
        return self._config.device

    def pruner(
        self, dataset: Any, labels: Tensor | Sequence[int] | None = None, **options: Any
    ) -> DynamicPruner:
        """Make the run's pruner, in place of ``DynamicPruner(dataset, num_epochs)``.

        Args:
            dataset: The training set, a map-style dataset of N samples.
            labels: The class of each sample, int64 (N,), for policies that go by classes; by default
                none is known.
            **options: What :class:`DynamicPruner` takes beside what the comparison decides, such as
                ``norms_from``.

        Returns:
            The pruner.

        Raises:
            ValueError: If the function makes a second one, or gives an option that the comparison
                decides on.
        """
        if self.made is not None:
            raise ValueError("a run has one pruner, and this is the second; make it once a call")
        decided = pruner_options(self._config, OwnData.of(dataset, labels), None, None)
        if self._record_to is not None:
            decided["record_to"] = self._record_to
        if taken := [name for name in options if name in decided and name != "norms_from"]:
            raise ValueError(f"{taken[0]} is what the comparison decides on; leave it out of run.pruner")
        made = WatchedPruner(dataset, self._config.epochs, **{**decided, **options})
        made.watch_with(self._config, self._pauses, self._watch)
        self.made = made
        return made


class WatchedPruner(DynamicPruner):
    """A pruner that tells after each epoch how far the run is, and stops it between two steps."""

    def watch_with(self, config: TrainConfig, pauses: Pauses, watch: Watch) -> None:
        """Begin to tell.

        Args:
            config: The run's options.
            pauses: Asked after each step.
            watch: Called after each epoch.
        """
        self._pauses, self.num_steps = pauses, 0
        self.device = torch.device("cpu")
        self._metric, self._lr = metric_of(config), config.lr
        self._watch = watch
        self.seconds: list[float] = []
        self._losses: list[float] = []  # at the end of each epoch
        self._began = time.perf_counter()

    def set_epoch(self, epoch: int) -> None:
        """See :meth:`DynamicPruner.set_epoch`; what comes between two epochs is on no epoch's clock."""
        self._began = time.perf_counter()
        super().set_epoch(epoch)

    def update(self, losses: Tensor, indices: Any, *args: Any, **signals: Any) -> Tensor:
        """See :meth:`DynamicPruner.update`."""
        mean = super().update(losses, indices, *args, **signals)
        self._tell(losses.device)
        return mean

    def record(self, losses: Tensor, indices: Any, *args: Any, **signals: Any) -> None:
        """See :meth:`DynamicPruner.record`."""
        super().record(losses, indices, *args, **signals)
        self._tell(losses.device)

    def _tell(self, device: torch.device) -> None:
        """Note that a batch was trained, and ask whether to stop."""
        self.device = device
        self.num_steps += 1
        if self.current.finished:
            epoch = self.current.number
            is_told = len(self.seconds) > epoch  # its last batch was recorded before, and is once more
            self.seconds[epoch:] = [time.perf_counter() - self._began]
            self._losses[epoch:] = [self.mean_loss]
            if not is_told:
                self._watch(Progress(self.progress, self.metrics()[-1], self._metric))
        self._pauses.pause()

    def metrics(self, result: float | None = None) -> list[EpochMetrics]:
        """What is recorded of the epochs.

        Args:
            result: The metric after the last of them; by default it is not known.
        """
        made: list[EpochMetrics] = []
        counted = self.report().epochs
        for counts in counted:
            is_last = counts is counted[-1]
            made.append(
                EpochMetrics(
                    epoch=counts.epoch,
                    num_kept=counts.num_recorded,
                    num_samples=self.num_samples,
                    train_loss=self._losses[len(made)] if len(made) < len(self._losses) else math.nan,
                    test_loss=None,
                    result=result if is_last else None,
                    seconds=self.seconds[len(made)] if len(made) < len(self.seconds) else 0.0,
                    lr=self._lr,
                    samples_so_far=sum(m.num_kept for m in made) + counts.num_recorded,
                    score_quantiles=score_quantiles(self.scores["last_loss"]) if is_last else [None] * 5,
                    noise=counts.noise,
                )
            )
        return made


class OwnTraining:
    """Trains a run by a function of the user's.

    Args:
        config: The run's options.
        data: Not looked at: the function has its own.
        folder: Where the run's files are left.
        scores: Not looked at.
        pauses: Decides between steps whether to stop.
    """

    def __init__(
        self, config: TrainConfig, data: Data, folder: RunFolder, scores: StaticScores, pauses: Pauses
    ) -> None:
        self.config = config
        self.folder = folder
        self.pauses = pauses

    def run(self, watch: Watch) -> Summary:
        """Call the function, and record what it trained.

        Args:
            watch: Called after each epoch.

        Returns:
            The run's summary.

        Raises:
            Interrupted: If the user asked to stop; the run begins anew when it goes on.
            ValueError: If the function gives no number, or did not train to the end by the run's pruner.
        """
        function = load_function(self.config.own.train)
        folder = record_to(self.config, self.folder, resumed=False)
        run = OwnRun(self.config, self.pauses, watch, folder)
        try:
            result = function(run)
        except (ValueError, OSError, ImportError) as error:  # which are told in a line
            raise ValueError(f"{function.__name__} fails: {reason_of(error)}") from error
        except SystemExit as error:
            raise ValueError(
                f"{function.__name__} ends the program (SystemExit: {error.code}), and other runs "
                "follow; let it return the metric after the last epoch, or raise an error"
            ) from error
        pruner = self._trained(run, function.__name__)
        check_batches(pruner, self.config.batch_size, function.__name__)
        value = _number(result, function.__name__)
        own = self.config.own
        if own.metric.endswith("%") and not own.lower_is_better and 0 < abs(value) <= SMALL:
            warnings.warn(
                f"{function.__name__} gave {value:g}, and the metric is {own.metric!r}: give a share "
                'times 100, and a loss its name, as in --own.metric "log loss" --own.lower-is-better',
                stacklevel=2,
            )
        if not run.lr_was_read:
            warnings.warn(
                f"{function.__name__} did not read run.lr, so that fewer epochs at a raised rate repeat "
                "those at the same one; take the learning rate from the run",
                stacklevel=2,
            )
        pruner.finish()
        metrics = pruner.metrics(value)
        noises = [m.noise for m in metrics if m.noise is not None]
        report = pruner.report()
        summary = Summary(
            result=value,
            test_loss=math.nan,
            per_class=[],
            num_trained=report.num_recorded,
            num_full=report.num_full,
            num_steps=pruner.num_steps,
            seconds=sum(pruner.seconds),
            evaluation_seconds=0.0,
            num_nonfinite=pruner.scores.num_nonfinite,
            environment=describe_environment(pruner.device),
            visits=quantiles(pruner.scores["visits"].double(), VISIT_QUANTILES),
            mean_noise=fmean(noises) if noises else None,
            most_noise=max(noises, default=None),
        )
        if replicas().rank == 0:
            pruner.export(self.folder.scores_path)
            self.folder.write_metrics(metrics)
            self.folder.write_summary(summary)
        return summary

    @staticmethod
    def _trained(run: OwnRun, name: str) -> WatchedPruner:
        """The run's pruner, once the run is trained to its end."""
        pruner = run.made
        if pruner is None:
            raise ValueError(
                f"{name} made no pruner; write `pruner = run.pruner(train_set)` in place of "
                "`DynamicPruner(train_set, num_epochs)`"
            )
        if not math.isclose(pruner.progress, 1):
            raise ValueError(
                f"{name} trained {pruner.progress:.0%} of its run; go through `for epoch in "
                "pruner.epochs():` to the end, and call pruner.update for each batch"
            )
        return pruner


def check_batches(pruner: DynamicPruner, batch_size: int, name: str) -> None:
    """Refuse batches that are larger than the run's, which a shorter run of as many steps has smaller.

    A step may be accumulated of smaller ones.

    Args:
        pruner: The run's.
        batch_size: The run's.
        name: The function's.

    Raises:
        ValueError: If the function takes its batch size from elsewhere.
    """
    batching = pruner.plan.batching
    if batching is None or batching.has_user_order:
        return
    size = batching.global_batch_size
    if size > batch_size:
        raise ValueError(
            f"{name} made batches of {size:g}, and run.batch_size is {batch_size} in this run: take "
            "batch size, length and learning rate from it, or the arms are not what they are called"
        )


def _number(result: Any, name: str) -> float:
    """What the function gave, as a number; one that is not finite counts as a run that diverged."""
    try:
        return float(result)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} gave {result!r}; give the metric after the last epoch, a number"
        ) from None
