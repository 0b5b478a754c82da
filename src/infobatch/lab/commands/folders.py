"""The folder that a command writes to."""

from __future__ import annotations

import time
from pathlib import Path

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.processes import agree


def resumed_path(out: Path | None) -> Path:
    """The folder to go on in.

    Args:
        out: What was typed for it, if anything.

    Raises:
        ValueError: If nothing was.
    """
    if out is None:
        raise ValueError("--resume needs --out, the folder to go on in")
    return out


def new_path(config: TrainConfig) -> Path:
    """A folder under runs/ that is named after what is trained and the time.

    Args:
        config: The run's options.
    """
    stamp = agree(lambda: time.strftime("%Y%m%d-%H%M%S"))
    model = Path(config.model).name.replace(":", "-")
    return Path("runs") / f"{config.recipe or f'{config.data}-{model}'}-{stamp}"
