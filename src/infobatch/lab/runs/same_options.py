"""Whether what is in a folder was trained as is wanted, so that runs are not mixed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from infobatch.lab.config.pruned_epochs import delta_of
from infobatch.lab.config.train import TrainConfig, flag

PLACE_OPTIONS = ("data_dir", "device", "workers")
"""The options that say where a run is trained, with which it may go on in another place."""
JUDGING_OPTIONS = ("own.metric", "own.lower_is_better")
"""The options that say what the result of a training function of the user's is."""
NEUTRAL_OPTIONS = (*PLACE_OPTIONS, *JUDGING_OPTIONS, "probe", "record")
"""Those, and the options that say what is measured of a run, and not what is trained."""


def require_same(wanted: TrainConfig, there: TrainConfig, path: Path) -> None:
    """Check that what is in a folder was trained with the options that are wanted.

    Args:
        wanted: The options that are wanted.
        there: The options of what is there.
        path: The folder.

    Raises:
        ValueError: If they differ in what is trained.
    """
    wanted, there = (replace(each, delta=delta_of(each)) for each in (wanted, there))
    for name, (now, then) in wanted.differences(there).items():
        if name == "source":
            raise ValueError(
                f"{path} was trained by other code: the training function, or a file of --model or "
                f"--transform, is another ({then or 'unknown'}; now {now or 'unknown'}), and mixing "
                "them would spoil the result; choose another --out, or put the code back"
            )
        if name == "data_mark":
            if now and then:
                raise ValueError(
                    f"{path} was trained on other data than are in {wanted.data_dir} now, and mixing "
                    "them would spoil the result; choose another --out, or put the data back"
                )
        elif name not in NEUTRAL_OPTIONS:
            raise ValueError(
                f"{path} was trained with {flag(name)} {then}, but {flag(name)} {now} is wanted, and "
                "mixing them would spoil the result; choose another --out, or remove that folder"
            )
