"""Option of a run: where its epochs are recorded, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path


@dataclass(frozen=True)
class Recording:
    """Where a run's epochs are recorded, and how often; a path alone records every epoch.

    Args:
        folder: The folder of the files. It is made, and must have no recorded epochs of another run.
        every: Records the epochs whose number it divides, and the run's last.

    Raises:
        ValueError: If ``every`` is not a whole number above 0, or the folder's name is empty.
        TypeError: If ``folder`` is no path.
    """

    folder: str | PathLike[str]
    every: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.folder, (str, PathLike)):
            raise TypeError(
                f"record_to is {self.folder!r}; give the path of a folder, or Recording(folder, every=5)"
            )
        if not str(self.folder):
            raise ValueError("record_to is empty, which is the working folder; give a folder of its own")
        if not isinstance(self.every, int) or isinstance(self.every, bool) or self.every < 1:
            raise ValueError(f"every is {self.every!r}; give a whole number of epochs, at least 1")

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self.folder)

    def takes(self, epoch: int, num_epochs: int) -> bool:
        """Whether an epoch of a run of ``num_epochs`` is recorded."""
        return epoch % self.every == 0 or epoch == num_epochs - 1


RecordTo = str | PathLike[str] | Recording
"""A folder, or a recording with options."""


def recording_of(record_to: RecordTo) -> Recording:
    """The recording that a path stands for; one that is given is left as it is."""
    return record_to if isinstance(record_to, Recording) else Recording(record_to)
