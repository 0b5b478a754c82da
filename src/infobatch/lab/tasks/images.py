"""The options of images that are decoded as they are read: how they are seen, and where they lie."""

from __future__ import annotations

from infobatch.lab.config.train import TrainConfig, flag
from infobatch.lab.data import Data, StreamedData
from infobatch.lab.data.files import FILE_SETS
from infobatch.lab.functions import load_function

VIEW_OPTIONS = ("test", "image_size", "transform")


def check_view(config: TrainConfig) -> None:
    """Refuse options of images that the data set does not have, and a transform that is not there.

    Args:
        config: The run's options.

    Raises:
        ValueError: If an option has no effect, or names no function.
    """
    for option in VIEW_OPTIONS:
        value = getattr(config, option)
        if value and config.data not in FILE_SETS:
            raise ValueError(
                f"{flag(option)} is {value}, and is for images that are decoded as they are read, with "
                f"--data {' or '.join(FILE_SETS)}; those of {config.data} are held in memory as they "
                "are: leave it out"
            )
    if config.test == "train" and not config.held_out:
        raise ValueError(
            "--test is train, by which runs would be judged by what they were trained on; give "
            "--held-out, such as 0.1, or leave it out"
        )
    if config.transform:
        load_function(config.transform)


def as_seen(config: TrainConfig, data: Data) -> Data:
    """The data as the network is to see it, by ``--image-size`` and ``--transform``.

    Args:
        config: The run's options.
        data: Images.

    Raises:
        ValueError: If the transform cannot be used.
    """
    return data.seen(config.image_size, config.transform) if isinstance(data, StreamedData) else data
