"""The data that a run's options name."""

from __future__ import annotations

from typing import Any

from infobatch.lab.commands.console import console
from infobatch.lab.commands.subsets import read_subset
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import DOWNLOADS, Data, load_data, local_folder
from infobatch.lab.data.files import FILE_SETS
from infobatch.lab.tasks.registry import TASKS


def load(config: TrainConfig) -> Data:
    """The data of a run, after its split, its subset and what its task makes of it.

    Args:
        config: The run's options.

    Returns:
        The data; what there is to say of it has been printed.

    Raises:
        ValueError: If the data does not fit the options.
        OSError: If the data cannot be read or downloaded.
    """
    if config.data in DOWNLOADS and local_folder(config.data_dir) is None:
        size = DOWNLOADS[config.data]
        console.print(f"{config.data} is downloaded ({size}), unless it was before")
    own: dict[str, Any] = {}
    if config.task == "segmentation":
        own = {"skip_bad": config.segmentation.skip_bad, "say": console.print}
    if config.data in FILE_SETS:
        own = {"test": config.test}
    if config.task in ("tabular", "regression"):
        own = {"target": config.tabular.target, "leave_out": config.tabular.leave_out}
        own["of_numbers"] = config.task == "regression"
        own["positive"] = config.tabular.positive
        own["holds_out"] = config.held_out > 0
    data = load_data(config.data, config.data_dir, **own)
    subset = None if config.subset is None else read_subset(config.subset, len(data.train))
    if config.held_out or config.train_samples or subset is not None:
        data = data.split(config.held_out, config.train_samples, subset)
    if config.imbalance > 1:
        data = data.long_tailed(config.imbalance)
    data = TASKS[config.task].prepare(config, data)
    for note in data.notes:
        console.print(note)
    return data
