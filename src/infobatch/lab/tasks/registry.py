"""The tasks by name: what each is judged by, and what data, models and options it has.

A task's own module is imported when the task is first made, for it may need optional packages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from infobatch.lab.config.train import TrainConfig, flag
from infobatch.lab.data import Data
from infobatch.lab.data.instructions import INSTRUCTION_SETS
from infobatch.lab.data.table_files import OWN_TABLE
from infobatch.lab.data.table_sets import REGRESSION_SETS, TABLE_SETS
from infobatch.lab.devices import resolve_device
from infobatch.lab.models import check_model
from infobatch.lab.models.language import check_language_model
from infobatch.lab.models.masked import check_masked
from infobatch.lab.models.segmentation import check_segmenter
from infobatch.lab.models.tables import check_table_model
from infobatch.lab.models.unets import is_folder, unet_config
from infobatch.lab.names import choose
from infobatch.lab.tasks.base import Task
from infobatch.lab.tasks.images import VIEW_OPTIONS, as_seen, check_view
from infobatch.lab.tasks.metrics import (
    ACCURACY,
    DENOISING,
    KNN,
    LINEAR_PROBE,
    MIOU,
    OF_TWO_CLASSES,
    RECONSTRUCTION,
    RELATIVE_RMSE,
    TABLE_METRICS,
    TOKEN_LOSS,
    Metric,
)
from infobatch.lab.tasks.own import check_own, own_metric
from infobatch.noise import NormsFrom
from infobatch.policies import Policy, Static
from infobatch.policies.base import refuse_refreshing
from infobatch.scores.columns import COLUMNS, NORMS, SIGNALS

# -- What a task makes of its data ---------------------------------------------------------------------


def _as_it_is(config: TrainConfig, data: Data) -> Data:
    return data


def _with_its_metric(config: TrainConfig, data: Data) -> Data:
    """The data as it is, if it has what the metric needs, and two classes where one is looked for."""
    metric, positive = config.tabular.metric, config.tabular.positive
    if positive and data.num_classes != 2:
        raise ValueError(
            f"--tabular.positive is {positive}, of two classes the one that is looked for, and "
            f"{config.tabular.target} has {data.num_classes}; leave it out"
        )
    if metric in OF_TWO_CLASSES and data.num_classes != 2:
        raise ValueError(
            f"--tabular.metric is {metric}, which is for two classes, and --data {config.data} has "
            f"{data.num_classes}; take log-loss, accuracy or balanced-accuracy"
        )
    if metric in OF_TWO_CLASSES and len(found := data.test.labels.unique()) < 2:
        raise ValueError(
            f"--tabular.metric is {metric}, and all rows of the test part are of the class "
            f"{data.class_names[int(found[0])]!r}, so that there is none; test on more rows "
            "(--held-out), or take log-loss"
        )
    return data


def _tokenized(config: TrainConfig, data: Data) -> Data:
    from infobatch.lab.tasks.tokens import tokenize

    return tokenize(config, data)


# -- Models and options that fit a task --------------------------------------------------------------


def _check_classifier(config: TrainConfig) -> None:
    check_view(config)
    check_model(config.model, config.stem_stride, config.norm, config.pretrained)


def _check_autoencoder(config: TrainConfig) -> None:
    check_view(config)
    check_masked(config.model)


def _check_tuning(config: TrainConfig) -> None:
    """Check the model, and the options that the Trainer, which has a loop of its own, does not have."""
    check_language_model(config.model)
    for option in ("normalizer", "schedule", "lr_scaling", "ema_decay", "compile"):
        value, default = getattr(config, option), type(config).__dataclass_fields__[option].default
        if value != default:
            raise ValueError(
                f"{flag(option)} is {value}, and --task tuning has no such option; leave it out"
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


def _check_table(config: TrainConfig) -> None:
    """Check the model, and that a table of the user's own, and no other, has a target given."""
    check_table_model(config.model)
    target, leave_out = config.tabular.target, config.tabular.leave_out
    if config.data == OWN_TABLE and not target:
        raise ValueError(
            f"--data {OWN_TABLE} is for files of your own; give --tabular.target, the column to predict"
        )
    given = {"target": target, "leave-out": " ".join(leave_out), "positive": config.tabular.positive}
    if config.data != OWN_TABLE and any(given.values()):
        option, value = next((name, value) for name, value in given.items() if value)
        raise ValueError(
            f"--tabular.{option} is {value}, and --data {config.data} has its own; leave it out, or "
            f"give --data {OWN_TABLE} and its folder as --data-dir"
        )


def _check_numbers(config: TrainConfig) -> None:
    """Check what a table of classes has, too, and that no metric of classes is asked for."""
    _check_table(config)
    if config.tabular.positive:
        raise ValueError(
            f"--tabular.positive is {config.tabular.positive}, one of two classes, and --task "
            "regression predicts numbers; leave it out"
        )
    if config.tabular.metric != "log-loss":
        raise ValueError(
            f"--tabular.metric is {config.tabular.metric}, which is for classes, and --task regression "
            "predicts numbers; leave it out"
        )


# -- The table ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskSpec:
    """What is known of a task before its own module is imported.

    Args:
        metric: What its runs are judged by, or a function that finds it by a run's options.
        data_sets: The data sets that have what it trains on.
        options: The options, or groups of them, that only some tasks have, this one among them.
        check_model: Raises an error for a model that cannot be made.
        task_class: The module within this room, and the class in it, as ``module:Class``.
        signals: What it can compute of a batch beside its losses, for policies that read it.
        norms_from: What its losses are, where norms of gradients have to follow from them.
        smooths_labels: Whether it has labels that can be smoothed.
        observes_left_out: Whether its engine runs the model on what an epoch left out, for policies that
            ask for it.
        knows_its_data: Whether its data is known before a run is trained.
        prepare: Makes of a data set what the task trains on, once for all runs of a comparison.
    """

    metric: Metric | Callable[[TrainConfig], Metric]
    data_sets: tuple[str, ...]
    options: tuple[str, ...]
    check_model: Callable[[TrainConfig], None]
    task_class: str
    signals: tuple[str, ...] = ()
    norms_from: NormsFrom = "cross-entropy"
    smooths_labels: bool = False
    observes_left_out: bool = True
    knows_its_data: bool = True
    prepare: Callable[[TrainConfig, Data], Data] = _as_it_is

    def load(self) -> type[Task]:
        """Import the task's class, and what it needs."""
        module, _, name = self.task_class.partition(":")
        found: type[Task] = getattr(import_module(f"infobatch.lab.tasks.{module}"), name)
        return found


MAE_METRICS = {"knn": KNN, "linear": LINEAR_PROBE, "none": RECONSTRUCTION}

IMAGE_SETS = (
    *("mnist5k", "digits", "fashion-mnist", "cifar10", "cifar100"),
    *("tiny-imagenet", "tiny-imagenet-40", "imagenet", "images"),
)

TASKS = {
    "classification": TaskSpec(
        metric=ACCURACY,
        data_sets=IMAGE_SETS,
        options=(
            *VIEW_OPTIONS,
            "pretrained",
            "stem_stride",
            "norm",
            "batch_norm",
            "mixup",
            "cutmix",
            "cutout",
            "resident",
            "probe",
            "backward_share",
            "proxy",
        ),
        check_model=_check_classifier,
        task_class="classification:Classification",
        smooths_labels=True,
        prepare=as_seen,
        signals=("gradient_norms", "confidences", "margins"),
    ),
    "mae": TaskSpec(
        metric=lambda config: MAE_METRICS[config.mae.evaluate],
        data_sets=IMAGE_SETS,
        options=(*VIEW_OPTIONS, "mae", "backward_share"),
        check_model=_check_autoencoder,
        task_class="mae:MaskedAutoencoding",
        prepare=as_seen,
        norms_from="squared-error",
    ),
    "tuning": TaskSpec(
        metric=TOKEN_LOSS,
        data_sets=tuple(INSTRUCTION_SETS),
        options=("tuning",),
        check_model=_check_tuning,
        task_class="tuning:Tuning",
        smooths_labels=True,
        observes_left_out=False,
        prepare=_tokenized,
    ),
    "segmentation": TaskSpec(
        metric=MIOU,
        data_sets=("camvid", "ade20k"),
        options=("segmentation", "batch_norm"),
        check_model=lambda config: check_segmenter(config.model),
        task_class="segmentation:Segmentation",
        smooths_labels=True,
    ),
    "diffusion": TaskSpec(
        metric=DENOISING,
        data_sets=(
            *("mnist5k", "digits", "fashion-mnist", "cifar10", "cifar100"),
            *("tiny-imagenet", "tiny-imagenet-40"),
        ),
        options=("diffusion",),
        check_model=_check_unet,
        task_class="diffusion:Diffusion",
        norms_from="squared-error",
    ),
    "tabular": TaskSpec(
        metric=lambda config: TABLE_METRICS[config.tabular.metric],
        data_sets=tuple(TABLE_SETS),
        options=("tabular", "batch_norm", "resident", "probe", "backward_share"),
        check_model=_check_table,
        task_class="tabular:Tabular",
        smooths_labels=True,
        prepare=_with_its_metric,
        signals=("gradient_norms", "confidences", "margins"),
    ),
    "regression": TaskSpec(
        metric=RELATIVE_RMSE,
        data_sets=tuple(REGRESSION_SETS),
        options=("tabular", "batch_norm", "resident"),
        check_model=_check_numbers,
        task_class="regression:Regression",
        norms_from="squared-error",
    ),
    "own": TaskSpec(
        metric=own_metric,
        data_sets=("own",),
        options=("own",),
        check_model=check_own,
        task_class="",  # it is no task of the lab's loops
        signals=("gradient_norms", "confidences", "margins"),
        observes_left_out=False,
        knows_its_data=False,
    ),
}
"""The tasks by the name that ``--task`` gives."""


# -- What a configuration's task says ----------------------------------------------------------------


def metric_of(config: TrainConfig) -> Metric:
    """Look up what a run is judged by.

    Args:
        config: The run's options.

    Returns:
        The task's metric.
    """
    metric = TASKS[config.task].metric
    return metric if isinstance(metric, Metric) else metric(config)


def check_task(config: TrainConfig, changed: set[str]) -> None:
    """Check that the run's task has its data, its model and its options.

    Args:
        config: The run's options.
        changed: The options that are not at their defaults; those of a group as ``group.option``.

    Raises:
        ValueError: For data, a model or an option that the task does not have.
    """
    spec = choose("task", config.task, TASKS)
    if config.data not in spec.data_sets:
        others = [name for name, other in TASKS.items() if config.data in other.data_sets]
        raise ValueError(
            f"--data is {config.data}, which is for {' or '.join(others)}, and --task {config.task}; "
            f"give --task {' or '.join(others)}, or --data of {', '.join(spec.data_sets)}"
        )
    for name, other in TASKS.items():
        for option in sorted(changed):
            if name != config.task and option.split(".")[0] in set(other.options) - set(spec.options):
                raise ValueError(
                    f"{flag(option)} is for --task {name}, not for {config.task}; leave it out"
                )
    if config.label_smoothing not in (0, TrainConfig.label_smoothing) and not spec.smooths_labels:
        raise ValueError(
            f"--label-smoothing is {config.label_smoothing:g}, and --task {config.task} has no labels "
            "to smooth; leave it out"
        )
    spec.check_model(config)


def has_soft_targets(config: TrainConfig) -> bool:
    """Whether a run's labels are smoothed or mixed."""
    mixes = config.label_smoothing or config.mixup or config.cutmix
    return bool(mixes) and TASKS[config.task].smooths_labels


def check_policy(config: TrainConfig, policy: Policy) -> None:
    """Check that the run's task computes what a policy reads.

    Args:
        config: The run's options.
        policy: The run's policy.

    Raises:
        ValueError: If the policy reads what the task does not have.
    """
    spec = TASKS[config.task]
    if config.task == "own":
        refuse_refreshing(policy, "a training function", "a task of the lab, such as classification")
    elif not spec.observes_left_out:
        refuse_refreshing(policy, "the Trainer")
    if isinstance(policy, Static) and config.task != "classification":
        raise ValueError(
            f"--policy {config.policy} goes by scores of a classifier of images, and --task is "
            f"{config.task}; take another policy"
        )
    read = {COLUMNS[name].signal for name in policy.columns}
    if policy.estimates_norms:
        read.discard(NORMS)
    for signal in sorted(read & set(SIGNALS) - set(spec.signals)):
        raise ValueError(
            f"--policy {config.policy} reads {signal.replace('_', ' ')}, and --task {config.task} "
            "has none; take another policy, or another column"
        )
