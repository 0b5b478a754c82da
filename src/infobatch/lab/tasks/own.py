"""What runs of a training function of the user's are given, and judged by."""

from __future__ import annotations

from infobatch.lab.config.train import TrainConfig, flag, of_function
from infobatch.lab.functions import check_takes, load_function
from infobatch.lab.tasks.metrics import Metric

GIVEN = ("epochs", "batch_size", "lr")
"""What a run gives the function, and only the user knows."""
OF_THE_FUNCTION = (
    *("own", "source", "data_mark", *GIVEN, "seed", "device"),
    *("policy", "prune_ratio", "target", "ramp", "delta", "warmup_epochs"),
    *("normalizer", "shrink", "least_batch", "batch_multiple", "record"),
)
"""The options that runs of a training function of the user's have."""


def check_own(config: TrainConfig) -> None:
    """Check that the function is there, has what it takes, and no option that it decides on itself.

    Args:
        config: The run's options.

    Raises:
        ValueError: If it is not so.
    """
    check_takes(load_function(config.own.train), config.own.train, "run")
    given = config.differences(of_function(config.own.train))
    if missing := [flag(name) for name in GIVEN if name not in given]:
        raise ValueError(
            f"{config.own.train} takes length, batch size and learning rate from its run; give "
            f"{', '.join(missing)}, as you train on full data"
        )
    for name, (value, _) in given.items():
        if name.split(".")[0] not in OF_THE_FUNCTION:
            raise ValueError(
                f"{flag(name)} is {value}, which {config.own.train} decides on itself; leave it out"
            )


def own_metric(config: TrainConfig) -> Metric:
    """What the function returns.

    Args:
        config: The run's options.
    """
    name, percent, _ = config.own.metric.partition("%")
    higher = not config.own.lower_is_better
    if percent:
        return Metric(name.strip(), "%", higher)
    return Metric(name.strip(), "", higher, digits=4, margin=0.0)
