"""What is logged of an epoch when it has ended, worked out in one place that knows no logger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from infobatch.policies.per_sample import Numbers, as_array
from infobatch.report import Report
from infobatch.scores.columns import IndexArray
from infobatch.scores.table import ScoreTable

__all__ = ["EpochLog", "Histogram", "Logger", "Suspect"]

NUM_BINS = 64
NUM_SUSPECTS = 20
_NOTHING = (-1, 0)


class Histogram(NamedTuple):
    """How many of some values lie in each of several bins of equal width.

    Args:
        counts: The number of values in each bin, int64 (n,).
        edges: Where the bins begin and end, float64 (n + 1,).
        total: The sum of the values.
        squares: The sum of their squares.
    """

    counts: IndexArray
    edges: np.ndarray
    total: float
    squares: float

    @classmethod
    def of(cls, values: np.ndarray) -> Histogram:
        """The histogram of values, float64 (N,), at least one."""
        counts, edges = np.histogram(values, NUM_BINS)
        return cls(counts, edges, float(values.sum()), float(values @ values))


@dataclass(frozen=True)
class Suspect:
    """A sample of high loss, which may be mislabelled or damaged, or hard.

    Args:
        index: Its index in the dataset.
        loss: Its latest loss.
        visits: In how many epochs it was trained.
        label: Its class; None where no labels were given.
    """

    index: int
    loss: float
    visits: int
    label: int | None


@dataclass(frozen=True)
class EpochLog:
    """An epoch as loggers get it; print it.

    Args:
        epoch: Number of the epoch, from 0.
        values: The metrics by their names, such as ``infobatch/saved``: docs/logging.md lists them.
        losses: The latest losses of all samples that have one; None if none has, or with
            :class:`infobatch.layouts.Sharded` scores, where no rank has all.
        suspects: The samples with the highest of these losses, the highest first; none where ``losses``
            is None.
    """

    epoch: int
    values: Mapping[str, float]
    losses: Histogram | None = None
    suspects: Sequence[Suspect] = ()

    def __str__(self) -> str:
        values = ", ".join(f"{name.split('/', 1)[1]} {v:.4g}" for name, v in self.values.items())
        worst = ", ".join(str(suspect.index) for suspect in self.suspects[:5])
        return values + (f"; highest losses: samples {worst}" if worst else "")


Logger = Callable[[EpochLog], object]
"""What is called with each epoch that has ended, on the first rank alone."""


class Journal:
    """The loggers of a run, and what of it each was told last."""

    def __init__(self) -> None:
        self.loggers: list[Logger] = []
        self._labels: IndexArray | None = None
        self._num_suspects = NUM_SUSPECTS
        self._told: list[tuple[int, int]] = []  # of each logger: the epoch, and what was recorded of it

    def add(
        self,
        loggers: Sequence[Logger],
        labels: Numbers | None,
        num_suspects: int | None,
        num_samples: int,
    ) -> None:
        """Take in loggers, and options that hold for all of them; see :meth:`DynamicPruner.log_to`."""
        for logger in loggers:
            if not callable(logger):
                raise TypeError(
                    f"{logger!r} is no logger: it must be called with an EpochLog; those of "
                    "infobatch.integrations.loggers take what a tracker gives, as TensorBoard(writer)"
                )
        if num_suspects is not None and num_suspects < 0:
            raise ValueError(f"num_suspects is {num_suspects}; it must be at least 0")
        classes = None if labels is None else _whole(as_array(labels, "labels"))
        if classes is not None and classes.shape != (num_samples,):
            raise ValueError(
                f"labels have the shape {classes.shape}, but the dataset has {num_samples:,} samples; "
                "give the class of each, in the dataset's order"
            )
        # Nothing is taken in before all of it is known to be right.
        self._num_suspects = self._num_suspects if num_suspects is None else num_suspects
        self._labels = self._labels if classes is None else classes
        self.loggers += loggers
        self._told += [_NOTHING] * len(loggers)

    def resume(self) -> None:
        """Go on where a state was taken."""
        self._told = [_NOTHING] * len(self.loggers)

    def tell(
        self,
        report: Report,
        scores: ScoreTable | None,
        trained: IndexArray | None,
        effective_share: float | None,
    ) -> None:
        """Tell the loggers of the last epoch of a report, unless they were told of all its samples.

        One that raises, and those after it, are told when the epoch is told of again.

        Args:
            report: The epochs so far.
            scores: The scores of all samples; None where this rank does not have them.
            trained: The samples that the epoch trained, (n,); None where this rank does not know them.
            effective_share: What the selection is worth: see :attr:`Selection.effective_share`; None for
                an epoch that was not pruned, or where it is not known.
        """
        counts = report.epochs[-1]
        now = counts.epoch, counts.num_recorded
        waiting = [place for place, told in enumerate(self._told) if told < now]
        if not waiting:
            return
        log = self._log(report, scores, trained, effective_share)
        for place in waiting:
            self.loggers[place](log)
            self._told[place] = now

    def _log(
        self,
        report: Report,
        scores: ScoreTable | None,
        trained: IndexArray | None,
        effective_share: float | None,
    ) -> EpochLog:
        counts = report.epochs[-1]
        values = {"epoch": counts.epoch, "saved": report.saved, "kept": counts.share}
        if counts.noise is not None:
            values["noise"] = counts.noise
        if effective_share is not None:
            values["effective_share"] = effective_share
        losses, suspects = None, []
        if scores is not None:
            known = np.flatnonzero(~np.isnan(scores["last_loss"].numpy()))
            latest = scores["last_loss"].numpy()[known].astype(np.float64)
            if len(latest):
                values["mean_loss"] = float(latest.mean())
                losses = Histogram.of(latest)
            suspects = self._suspects(scores, known, latest)
        if trained is not None and self._labels is not None:
            values |= _keep_rates(self._labels, trained)
        named = {f"infobatch/{name}": float(value) for name, value in values.items()}
        return EpochLog(counts.epoch, named, losses, suspects)

    def _suspects(self, scores: ScoreTable, known: IndexArray, latest: np.ndarray) -> list[Suspect]:
        """The samples with the highest of the ``latest`` losses (n,), which are those of ``known``."""
        number = min(self._num_suspects, len(latest))
        highest = torch.from_numpy(latest).topk(number).indices.numpy()
        indices, visits = known[highest], scores["visits"].numpy()
        labels = self._labels
        return [
            Suspect(
                int(index),
                float(loss),
                int(visits[index]),
                None if labels is None or index >= len(labels) else int(labels[index]),
            )
            for index, loss in zip(indices, latest[highest], strict=True)
        ]


def _whole(labels: np.ndarray) -> IndexArray:
    """Labels as they are counted, int64; ``ValueError`` for what is no number of a class."""
    whole: np.ndarray | bool = labels.dtype.kind in "iub"
    if labels.dtype.kind == "f":
        whole = np.isfinite(labels) & (labels == np.trunc(labels))
    if not np.all(whole):
        wrong = labels[np.argmin(np.broadcast_to(whole, labels.shape))]
        raise ValueError(
            f"labels has {wrong}, which is no number of a class; give whole numbers, which "
            "np.unique(names, return_inverse=True)[1] makes of names"
        )
    return labels.astype(np.int64)


def _keep_rates(labels: IndexArray, trained: IndexArray) -> dict[str, float]:
    """The share of each class's samples that were trained, of the samples whose class is known."""
    classes, of_sample = np.unique(labels, return_inverse=True)
    totals = np.bincount(of_sample, minlength=len(classes))
    kept = np.bincount(of_sample[trained[trained < len(labels)]], minlength=len(classes))
    shares = (kept / totals).tolist()
    return {f"keep_rate/{name}": share for name, share in zip(classes.tolist(), shares, strict=True)}
