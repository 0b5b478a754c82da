"""The tasks by name: what each is judged by, and what data, models and options it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from infobatch.lab.metrics import ACCURACY, DENOISING, Metric
from infobatch.lab.models import check_model
from infobatch.lab.models.unets import is_folder, unet_config
from infobatch.lab.names import choose

if TYPE_CHECKING:
    from infobatch.lab.config import TrainConfig
    from infobatch.lab.tasks.base import Task


@dataclass(frozen=True)
class Kind:
    """One task.

    ``data``: the sets that have what it trains on. ``options``: those, or groups of them, that no other
    task has. ``check_model``: raises an error for a model that cannot be made. ``place``: its module and
    class, imported when it is first made, for it may need packages of its own. ``signals``: what it can
    tell of a batch beside its losses.
    """

    metric: Metric
    data: tuple[str, ...]
    options: tuple[str, ...]
    check_model: Callable[[TrainConfig], None]
    place: str
    signals: tuple[str, ...] = ()

    def task(self) -> type[Task]:
        module, name = self.place.split(":")
        made: type[Task] = getattr(import_module(module), name)
        return made


def _check_classifier(config: TrainConfig) -> None:
    check_model(config.model, config.stem_stride, config.norm)


def _check_unet(config: TrainConfig) -> None:
    unet_config(config.model)
    if config.diffusion.dropout and is_folder(config.model):
        raise ValueError(
            f"--diffusion.dropout is {config.diffusion.dropout:g}, but {config.model} comes "
            "with its own; leave it out"
        )


KINDS = {
    "classification": Kind(
        metric=ACCURACY,
        data=(
            *("mnist5k", "digits", "cifar10", "cifar100"),
            *("tiny-imagenet", "tiny-imagenet-40", "imagenet"),
        ),
        options=("stem_stride", "norm", "mixup", "cutmix", "probe", "backward_share"),
        check_model=_check_classifier,
        place="infobatch.lab.tasks.classification:Classification",
        signals=("gradient_norms", "confidences"),
    ),
    "diffusion": Kind(
        metric=DENOISING,
        data=("mnist5k", "digits", "cifar10", "cifar100", "tiny-imagenet", "tiny-imagenet-40"),
        options=("diffusion",),
        check_model=_check_unet,
        place="infobatch.lab.tasks.diffusion:Diffusion",
    ),
}


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
