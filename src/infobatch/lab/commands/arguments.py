"""How options and arguments are written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from infobatch.lab.config.train import CommonConfig, TrainConfig

Options = Annotated[TrainConfig, tyro.conf.arg(name="")]
CommonOptions = Annotated[CommonConfig, tyro.conf.arg(name="")]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
RecipeName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE]")]
Paths = tyro.conf.Positional[tuple[Path, ...]]
Switch = tyro.conf.FlagCreatePairsOff[bool]
