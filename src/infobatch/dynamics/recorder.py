"""Records the epochs of a run: what the score table holds of each when it ends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from infobatch.dynamics.files import EpochRecord, epoch_files, seed_of, write_epoch
from infobatch.dynamics.recording import Recording
from infobatch.epoch import Epoch
from infobatch.layouts.base import ScoreStore
from infobatch.scores.files import import_parquet
from infobatch.user_warnings import warn_user

_COLUMNS = {"margins": "epoch_margin", "confidences": "epoch_confidence"}
"""The score columns of what batches may bring beside losses to be recorded."""


class Recorder:
    """Records nothing: the recorder of a run that is not recorded."""

    is_on: ClassVar[bool] = False
    """Whether it records."""

    def begin(self) -> None:
        """Begin an epoch."""

    def take(self, epoch: Epoch, given: Collection[str]) -> None:
        """Take notice of a batch of the epoch, and of the names of the signals that came with it."""

    def write(self, epoch: Epoch) -> None:
        """Write what was recorded of an epoch, which is merged."""

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken, which is about to be loaded."""


class EpochRecorder(Recorder):
    """Writes a file at the end of each epoch, and adds nothing to a step but the signals' columns.

    The numbers wait in columns of the score table, so that they are merged over the ranks and saved in
    checkpoints with all others. Which signals there are is told by the first batch.

    Args:
        recording: Where to, and how often.
        store: The scores of the run, on this rank.

    Raises:
        ImportError: If pyarrow, which writes the files, is not installed.
        NotADirectoryError: If there is a file in place of the folder.
    """

    is_on = True

    def __init__(self, recording: Recording, store: ScoreStore[Any]) -> None:
        import_parquet()
        self._recording = recording
        self._folder = recording.path.absolute()  # wherever the process goes while it trains
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise NotADirectoryError(
                f"record_to is {self._folder}, where there is a file; give a folder"
            ) from error
        self._store = store
        self._brought: tuple[str, ...] | None = None
        self._is_resumed = False
        self._has_begun = False  # to train, since it was made or resumed
        self._unknown: int | None = None  # an epoch of which a part was trained and not recorded
        store.keep(["epoch_loss"])

    def begin(self) -> None:
        self._store.scores.begin_epoch()

    def take(self, epoch: Epoch, given: Collection[str]) -> None:
        """Take notice of a batch.

        Raises:
            FileExistsError: At the first batch of a run, if its folder has epochs of another.
            ValueError: If other signals come with it than with the run's first batch.
        """
        if not self._has_begun:
            self._begin_training(epoch.number)
        brought = tuple(name for name in _COLUMNS if name in given)
        if self._brought is None:
            self._brought = brought
            self._store.keep([_COLUMNS[name] for name in brought])
        elif brought != self._brought:
            raise ValueError(
                f"{_listed(brought)} came with this batch to be recorded, and {_listed(self._brought)} "
                "with the first of the run; give every batch the same, or those of no use to none"
            )

    def write(self, epoch: Epoch) -> None:
        plan, store = self._store.plan, self._store
        number, num_epochs = epoch.number, plan.schedule.num_epochs
        if number >= num_epochs or number == self._unknown or epoch.done == 0:
            return
        if not self._recording.takes(number, num_epochs):
            return
        rank, num_parts = store.replicas.rank, store.num_parts
        if num_parts == 1 and rank > 0:
            return
        indices, rows = store.trained_in(epoch)
        scores, columns = store.scores, ["epoch_loss", *(_COLUMNS[name] for name in self._brought or ())]
        values = {name.removeprefix("epoch_"): scores[name].numpy()[rows] for name in columns}
        record = EpochRecord(number, plan.num_samples, store.seed, indices, **values)
        write_epoch(self._folder, record, None if num_parts == 1 else rank, num_parts)
        if rank == 0:
            self._drop_parts_of_others(number, num_parts)

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken.

        Warns if what was trained before is not all in the folder.

        Raises:
            FileExistsError: If the folder has epochs of a run with another seed.
        """
        there = epoch_files(self._folder)
        self._check_seed(next(iter(files.values())) for files in there.values())
        columns, epoch = state["scores"]["columns"], state["epoch"]
        was_recorded, has_trained = "epoch_loss" in columns, bool(state["recorded"].any())
        if was_recorded and (epoch or has_trained):
            self._brought = tuple(name for name, column in _COLUMNS.items() if column in columns)
            self._store.keep([_COLUMNS[name] for name in self._brought])
        self._unknown = epoch if has_trained and not was_recorded else None
        self._is_resumed, self._has_begun = True, False
        num_epochs = self._store.plan.schedule.num_epochs
        missing = [e for e in range(epoch) if self._recording.takes(e, num_epochs) and e not in there]
        missing += [] if self._unknown is None else [epoch]
        if missing:
            warn_user(
                f"the run goes on in epoch {epoch}, and {self._folder} lacks what it trained of epochs "
                f"{', '.join(map(str, missing))}: it was not recorded then, or into another folder. "
                "Signals will be made of the epochs that are there"
            )

    def _check_seed(self, paths: Iterable[Path]) -> None:
        """Refuse to go on in a folder with epochs of another seed, which would be removed."""
        for path in paths:
            if (seed := seed_of(path)) not in (None, self._store.seed):
                raise FileExistsError(
                    f"{path} is of a run with seed {seed}, and this run has seed {self._store.seed}; "
                    "give record_to= the folder of the run whose state is loaded"
                )

    def _begin_training(self, number: int) -> None:
        """Refuse another run's epochs in the folder; remove those that a resumed run trains anew."""
        self._has_begun = True
        there = epoch_files(self._folder)
        if there and not self._is_resumed:
            raise FileExistsError(
                f"{self._folder} has recorded epochs of another run, {min(there)} to {max(there)}; give "
                "record_to= a new folder, or remove those. To go on with that run give "
                "load_state_dict its state"
            )
        if self._store.replicas.rank == 0:
            for epoch, files in there.items():
                for path in files.values() if epoch >= number else ():
                    path.unlink(missing_ok=True)

    def _drop_parts_of_others(self, number: int, num_parts: int) -> None:
        """Remove parts of an epoch that an earlier number of ranks wrote; none of these writes them."""
        own = {None} if num_parts == 1 else set(range(num_parts))
        for rank, path in epoch_files(self._folder).get(number, {}).items():
            if rank not in own:
                path.unlink(missing_ok=True)


def _listed(names: Collection[str]) -> str:
    return " and ".join(names) or "no margins or confidences"
