"""A folder of recorded epochs, read."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from infobatch.dynamics.files import EpochRecord, epoch_files, read_epoch
from infobatch.dynamics.signals import signals_of


class Dynamics:
    """The recorded epochs of a run; to iterate over it gives each as an :class:`EpochRecord`.

    Nothing is kept in memory: each epoch is read when it is asked for.

    Args:
        folder: The folder of their files.

    Attributes:
        epochs: The numbers of the recorded epochs, in rising order.

    Raises:
        ValueError: If the folder has no epochs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = epoch_files(folder)
        self.epochs = list(self._files)
        if not self.epochs:
            raise ValueError(
                f"{folder} has no recorded epochs (epoch-00000.parquet and so on); record a run by "
                "DynamicPruner(..., record_to=folder), or in the lab by --record"
            )

    @property
    def num_epochs(self) -> int:
        """How many epochs were recorded."""
        return len(self.epochs)

    @cached_property
    def num_samples(self) -> int:
        """N, the samples of the dataset in the last recorded epoch."""
        return self[self.epochs[-1]].num_samples

    def __len__(self) -> int:
        return self.num_epochs

    def __getitem__(self, epoch: int) -> EpochRecord:
        """What was recorded of an epoch, by its number; ``KeyError`` if it was not recorded."""
        if epoch not in self._files:
            raise KeyError(f"epoch {epoch} was not recorded; {self.folder} has {self.epochs}")
        return read_epoch(epoch, self._files[epoch])

    def __iter__(self) -> Iterator[EpochRecord]:
        return self._of_one_run(None)

    def _of_one_run(self, index: int | None) -> Iterator[EpochRecord]:
        """Each epoch, or its row of one sample, once it is known to be of the run of the one before."""
        before = None
        for epoch, paths in self._files.items():
            record = read_epoch(epoch, paths, index)
            if before is not None:
                _check_same_run(before, record, self.folder)
            yield record
            before = record

    def history(self, index: int) -> dict[str, np.ndarray]:
        """What was recorded of one sample.

        Args:
            index: Its index in the dataset.

        Returns:
            ``epoch``, the epochs that trained it, int64 (n,), and its ``loss`` and what else was
            recorded in each, float32 (n,). An epoch that left it out is not among them.

        Raises:
            IndexError: If there is no such sample.
        """
        if not 0 <= index < self.num_samples:
            raise IndexError(
                f"sample {index} does not exist: there are {self.num_samples:,}, numbered from 0"
            )
        rows = list(self._of_one_run(index))
        history = {"epoch": np.array([row.epoch for row in rows if len(row.index)], np.int64)}
        for name in rows[0].values:
            history[name] = np.concatenate([row.values[name] for row in rows])
        return history

    def signals(self) -> dict[str, np.ndarray]:
        """What the epochs tell of each sample, a table of N rows: columns (N,) by name.

        They are those of :data:`SIGNALS` whose source was recorded, worked out epoch by epoch; as a
        pandas table: ``pandas.DataFrame(dynamics.signals())``. Floats are NaN for a sample that was
        never trained. Of a run that left samples out they are made of the epochs that trained each.

        Raises:
            ValueError: If a file is damaged, or the epochs are of several runs.
        """
        return signals_of(self, self.num_samples)


def read_dynamics(path: str | Path) -> Dynamics:
    """Read the recorded epochs of a run.

    Args:
        path: The folder that ``record_to=`` named, or a run's folder of the lab, which has it as
            ``dynamics``.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has no recorded epochs.
        ImportError: If pyarrow, which reads them, is not installed.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}; give the one that record_to= named")
    inner = path / "dynamics"
    return Dynamics(inner if inner.is_dir() and not epoch_files(path) else path)


def _check_same_run(before: EpochRecord, record: EpochRecord, folder: Path) -> None:
    """Raise ``ValueError`` if two recorded epochs, one after the other, are not of one run."""
    names = [sorted(each.values) for each in (before, record)]
    differing = [
        ("samples", before.num_samples, record.num_samples, record.num_samples < before.num_samples),
        ("the seed", before.seed, record.seed, record.seed != before.seed),
        ("columns", ", ".join(names[0]), ", ".join(names[1]), names[0] != names[1]),
    ]
    for what, then, now, differs in differing:
        if differs:
            raise ValueError(
                f"{folder} has epochs of two runs: epoch {before.epoch} has {what} {then}, epoch "
                f"{record.epoch} {now}; record each run into a folder of its own"
            )
