"""The tasks by name: what each is judged by, and what data, models and options it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from infobatch.lab.data.instructions import INSTRUCTION_SETS
from infobatch.lab.devices import resolve_device
from infobatch.lab.models import check_model
from infobatch.lab.models.language import check_language_model
from infobatch.lab.models.masked import check_masked
from infobatch.lab.models.segmentation import check_segmenter
from infobatch.lab.models.unets import is_folder, unet_config
from infobatch.lab.names import choose
from infobatch.lab.tasks.metrics import (
    ACCURACY,
    DENOISING,
    KNN,
    LINEAR_PROBE,
    MIOU,
    RECONSTRUCTION,
    TOKEN_LOSS,
    Metric,
)
from infobatch.policies import Policy, Static
from infobatch.policies.base import refuse_refreshing
from infobatch.scores.columns import COLUMNS, SIGNALS

if TYPE_CHECKING:
    from infobatch.lab.config.train import TrainConfig
    from infobatch.lab.data import Data
    from infobatch.lab.tasks.base import Task


@dataclass(frozen=True)
class Kind:
    """One task.

    ``metric``: what it is judged by, or what tells that of a configuration. ``data``: the sets that have
    what it trains on. ``options``: those, or groups of them, that no other
    task has. ``check_model``: raises an error for a model that cannot be made. ``place``: its module and
    class, imported when it is first made, for it may need packages of its own. ``signals``: what it can
    tell of a batch beside its losses. ``engine_place``: of what trains it;
    ``looks_at_left_out``: whether that fetches what an epoch leaves out, for policies that ask for it.
    ``preparation``: of a function that makes of a set what it trains on; empty where that is the set.
    """

    metric: Metric | Callable[[TrainConfig], Metric]
    data: tuple[str, ...]
    options: tuple[str, ...]
    check_model: Callable[[TrainConfig], None]
    place: str
    signals: tuple[str, ...] = ()
    engine_place: str = "infobatch.lab.training.loop:Loop"
    looks_at_left_out: bool = True
    preparation: str = ""

    def task(self) -> type[Task]:
        made: type[Task] = _imported(self.place)
        return made

    def engine(self) -> Any:
        """The class of the engine, a :class:`infobatch.lab.training.engine.Engine`."""
        return _imported(self.engine_place)

    def prepare(self, config: TrainConfig, data: Data) -> Data:
        """What the task trains on, made of a set once for all runs of a comparison."""
        if not self.preparation:
            return data
        prepared: Data = _imported(self.preparation)(config, data)
        return prepared


def _imported(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(module), name)


def _check_classifier(config: TrainConfig) -> None:
    check_model(config.model, config.stem_stride, config.norm)


def _check_tuning(config: TrainConfig) -> None:
    """The Trainer has a loop of its own, without some of what others have."""
    check_language_model(config.model)
    for option in ("normalizer", "lr_scaling", "ema_decay", "compile"):
        value, default = getattr(config, option), type(config).__dataclass_fields__[option].default
        if value != default:
            raise ValueError(
                f"--{option.replace('_', '-')} is {value}, which --task tuning has not; leave it out"
            )
    micro_batch = config.tuning.micro_batch
    if micro_batch and config.batch_size % micro_batch:
        raise ValueError(
            f"--tuning.micro-batch is {micro_batch}, of which no whole number makes the --batch-size "
            f"{config.batch_size}; give a divisor"
        )
    if resolve_device(config.device).index not in (None, 0):
        raise ValueError(
            f"--device is {config.device}, and the Trainer takes the first it sees; give --device cuda, "
            "and the other by CUDA_VISIBLE_DEVICES"
        )


def _check_unet(config: TrainConfig) -> None:
    unet_config(config.model)
    if config.diffusion.dropout and is_folder(config.model):
        raise ValueError(
            f"--diffusion.dropout is {config.diffusion.dropout:g}, but {config.model} comes "
            "with its own; leave it out"
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
    ),
    "mae": Kind(
        metric=lambda config: PROBES[config.mae.evaluate],
        data=IMAGE_SETS,
        options=("mae", "backward_share"),
        check_model=lambda config: check_masked(config.model),
        place="infobatch.lab.tasks.mae:MaskedAutoencoding",
    ),
    "tuning": Kind(
        metric=TOKEN_LOSS,
        data=tuple(INSTRUCTION_SETS),
        options=("tuning",),
        check_model=_check_tuning,
        place="infobatch.lab.tasks.tuning:Tuning",
        engine_place="infobatch.lab.training.hf_trainer:TrainerEngine",
        looks_at_left_out=False,
        preparation="infobatch.lab.tasks.tokens:prepare",
    ),
    "segmentation": Kind(
        metric=MIOU,
        data=("camvid", "ade20k"),
        options=("segmentation",),
        check_model=lambda config: check_segmenter(config.model),
        place="infobatch.lab.tasks.segmentation:Segmentation",
    ),
    "diffusion": Kind(
        metric=DENOISING,
        data=("mnist5k", "digits", "cifar10", "cifar100", "tiny-imagenet", "tiny-imagenet-40"),
        options=("diffusion",),
        check_model=_check_unet,
        place="infobatch.lab.tasks.diffusion:Diffusion",
    ),
}


def check_policy(config: TrainConfig, policy: Policy) -> None:
    """Raise ``ValueError`` for a policy that asks for what the configuration's task cannot tell."""
    kind = KINDS[config.task]
    if not kind.looks_at_left_out:
        refuse_refreshing(policy, "the Trainer")
    if isinstance(policy, Static) and config.task != "classification":
        raise ValueError(
            f"--policy {config.policy} goes by scores of a classifier, and --task is {config.task}; "
            "take another policy"
        )
    read = {COLUMNS[name].signal for name in policy.columns}
    for signal in sorted(read & set(SIGNALS) - set(kind.signals)):
        raise ValueError(
            f"--policy {config.policy} reads {signal.replace('_', ' ')}, and --task {config.task} "
            "has none; take another policy, or another column"
        )


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
