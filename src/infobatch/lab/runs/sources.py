"""Which code and data of the user's a run is trained by, so that others are not taken for them."""

from __future__ import annotations

from infobatch.lab.config.train import TrainConfig, flag
from infobatch.lab.data import local_folder
from infobatch.lab.data.marks import mark_of
from infobatch.lab.functions import GIVEN, source_of
from infobatch.lab.models import is_own


def sources_of(config: TrainConfig) -> str:
    """Marks of the files that a run's functions come from.

    Args:
        config: The run's options.

    Returns:
        Each option that names a function and the mark of its file; empty where there is none. What such
        a file imports has no mark.

    Raises:
        ValueError: If there is no such file or module.
    """
    return ", ".join(f"{flag(option)} {source_of(name)}" for option, name in _named(config).items())


def _named(config: TrainConfig) -> dict[str, str]:
    """The functions in files or modules that a run is trained by, by the options that name them."""
    named = {"transform": config.transform} if config.transform else {}
    if config.task == "classification":
        models = {"model": config.model, "proxy": config.proxy}
        named |= {option: name for option, name in models.items() if is_own(name)}
    if config.task == "own" and config.own.train not in GIVEN:
        named["own.train"] = config.own.train
    return named


def check_sources(config: TrainConfig) -> None:
    """Refuse to go on with a run, or to evaluate it, by other code than it was started with.

    Args:
        config: The options that the run was started with.

    Raises:
        ValueError: If a file has changed since.
    """
    now = sources_of(config)
    if now != config.source:
        before = config.source.split(", ")
        changed = next((each for each in now.split(", ") if each not in before), now).split(" ")[0]
        option, name = next(pair for pair in _named(config).items() if flag(pair[0]) == changed)
        option = "the training function" if option == "own.train" else flag(option)
        raise ValueError(
            f"the file of {option} {name} has changed since the run was started; put it back, or start "
            "another run"
        )


def check_data(config: TrainConfig) -> None:
    """Refuse to go on with a run, or to show it, by other data than it was started with.

    Args:
        config: The options that the run was started with, and where its data is now.

    Raises:
        ValueError: If the data has changed since.
    """
    folder = local_folder(config.data_dir)
    now = mark_of(config.data, folder, config.test)
    if now and config.data_mark not in ("", now):
        raise ValueError(
            f"the data in {folder} have changed since the run was started; put them back, or start "
            "another run"
        )
