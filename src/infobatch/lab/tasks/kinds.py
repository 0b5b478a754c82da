"""The tasks by name: what each is judged by, and what data, models and options it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from infobatch.lab.metrics import ACCURACY, KNN, LINEAR_PROBE, RECONSTRUCTION, Metric
from infobatch.lab.models import check_model, check_model_fits
from infobatch.lab.models.masked import check_masked, check_masked_fits
from infobatch.lab.names import choose

if TYPE_CHECKING:
    from infobatch.lab.config import TrainConfig
    from infobatch.lab.data import Data
    from infobatch.lab.tasks.base import Task


@dataclass(frozen=True)
class Kind:
    """One task.

    ``metric``: what it is judged by, or what tells that of a configuration. ``data``: the sets that have
    what it trains on. ``options``: those, or groups of them, that no other
    task has. ``check_model``: raises an error for a model that cannot be made. ``place``: its module and
    class, imported when it is first made, for it may need packages of its own. ``signals``: what it can
    tell of a batch beside its losses. ``check_data``: raises an error for data that do not fit the
    configuration.
    """

    metric: Metric | Callable[[TrainConfig], Metric]
    data: tuple[str, ...]
    options: tuple[str, ...]
    check_model: Callable[[TrainConfig], None]
    place: str
    signals: tuple[str, ...] = ()
    check_data: Callable[[TrainConfig, Data], None] = lambda config, data: None

    def task(self) -> type[Task]:
        module, name = self.place.split(":")
        made: type[Task] = getattr(import_module(module), name)
        return made


def _check_classifier(config: TrainConfig) -> None:
    check_model(config.model, config.stem_stride, config.norm)


def _check_classes(config: TrainConfig, data: Data) -> None:
    if data.num_classes == 0:
        raise ValueError(f"--task classification needs labels, and {data.name} has none")
    check_model_fits(config.model, data.shape)


def _check_masked(config: TrainConfig) -> None:
    check_masked(config.model)


def _check_masked_data(config: TrainConfig, data: Data) -> None:
    check_masked_fits(config.model, config.mae, data.shape)
    if config.mae.probe != "none" and data.num_classes == 0:
        raise ValueError(
            f"--mae.probe is {config.mae.probe}, which needs labels, and {data.name} has none; give "
            "--mae.probe none, to be judged by the loss on the images to validate on"
        )


PROBES = {"knn": KNN, "linear": LINEAR_PROBE, "none": RECONSTRUCTION}

IMAGE_SETS = (
    *("mnist5k", "digits", "cifar10", "cifar100"),
    *("tiny-imagenet", "tiny-imagenet-40", "imagenet", "images"),
)


KINDS = {
    "classification": Kind(
        metric=ACCURACY,
        data=IMAGE_SETS,
        options=("stem_stride", "norm", "mixup", "cutmix", "probe", "backward_share"),
        check_model=_check_classifier,
        place="infobatch.lab.tasks.classification:Classification",
        signals=("gradient_norms", "confidences"),
        check_data=_check_classes,
    ),
    "mae": Kind(
        metric=lambda config: PROBES[config.mae.probe],
        data=IMAGE_SETS,
        options=("mae", "backward_share"),
        check_model=_check_masked,
        place="infobatch.lab.tasks.mae:MaskedAutoencoding",
        check_data=_check_masked_data,
    ),
}


def metric_of(config: TrainConfig) -> Metric:
    """What its run is judged by."""
    metric = KINDS[config.task].metric
    return metric if isinstance(metric, Metric) else metric(config)


def check_kind(config: TrainConfig, changed: set[str]) -> None:
    """Raise an error for data, models or options that the configuration's task has not.

    ``changed``: the options that are not at their defaults; a group's as ``group.option``.
    """
    kind = choose("task", config.task, KINDS)
    if config.data not in kind.data:
        others = [name for name, other in KINDS.items() if config.data in other.data]
        raise ValueError(
            f"--data is {config.data}, which is for {' or '.join(others)}, and --task {config.task}; "
            f"give one of {', '.join(kind.data)}, or another --task"
        )
    for name, other in KINDS.items():
        for option in sorted(changed):
            if name != config.task and option.split(".")[0] in set(other.options) - set(kind.options):
                flag = "--" + option.replace("_", "-")
                raise ValueError(f"{flag} is for --task {name}, not for {config.task}; leave it out")
    kind.check_model(config)
