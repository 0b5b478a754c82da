"""What a run is made of: plain data, whose fields are the options of the command line.

The text under each field is the option's help.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from infobatch.lab.config.task_options import (
    DiffusionOptions,
    MaskedOptions,
    OwnOptions,
    SegmentationOptions,
    TabularOptions,
    TuningOptions,
)
from infobatch.losses import Normalizer
from infobatch.lr import LRScaling
from infobatch.policies import DEFAULT

T = TypeVar("T")

PASS = "pass"
"""The value of --prior-scores that asks for the losses at the initial weights."""
PATHS = ("data_dir", "subset")
"""Options that are paths."""
UNTYPED = ("recipe", "source", "data_mark")
"""Options that follow from others, and are not typed."""
ALWAYS_THERE = ("data", "model", "epochs", "batch_size", "lr", "policy", "seed")
"""Options without which a file is not that of a run."""


@dataclass(frozen=True)
class CommonConfig:
    """The options that all runs of a comparison share."""

    recipe: str = ""
    """Name of the recipe that the options come from, if any."""
    task: str = "classification"
    """What is learned: classification, segmentation, mae (a masked autoencoder that reconstructs
    images), diffusion, tuning (of a language model on instructions), tabular and regression (the class
    of each row of a table, or a number), or own (a training function of yours). Diffusion, tabular and
    regression have defaults of their own."""
    data: str = "mnist5k"
    """Data set, such as mnist5k, cifar10 or flights; images or table for your own, in --data-dir. Built
    in are mnist5k and digits. cifar10, cifar100, fashion-mnist, tiny-imagenet, tiny-imagenet-40 and
    imagenet are downloaded, or read from --data-dir; images are your own, there. For segmentation:
    ade20k, or camvid (in --data-dir only). For tuning: alpaca, alpaca-cleaned, or the local sets bbh and
    instructions. For tabular: breast-cancer and flights, which are built in, the local set shuttle, or a
    table of your own, in --data-dir. For regression: diabetes, which is built in, or a table of your
    own."""
    data_dir: Path | None = None
    """Folder with parquet files in the layout of the hub, with folders of images, or with a table as CSV
    or Parquet; the variable INFOBATCH_DATA_DIR gives its default."""
    test: str = ""
    """For images and imagenet: evaluate on the images in this folder beside train/, or in the parquet
    files of this name; by default the first that is there of val, valid, validation and test."""
    image_size: int = 0
    """For images and imagenet: side of the square that the network sees, in pixels; 0 takes 224."""
    transform: str = ""
    """For images and imagenet: a function of yours, as FILE.py:NAME or MODULE:NAME, that returns what is
    done with each image, in place of random resized crops and flips. It is given train (whether for
    training) and image_size, if it names them."""
    subset: Path | None = None
    """Train only on these samples: a JSON file with a list of their indices, or a CSV file with a column
    `index`."""
    held_out: float = 0.0
    """Hold out this share of the training set, and evaluate on it instead of the test set, for example
    to tune options."""
    train_samples: int = 0
    """Train on a fixed random subset of this many samples; 0 takes all."""
    imbalance: float = 1.0
    """Make the training set long-tailed: of the first class all samples are kept, of each following one
    a smaller share, down to 1 in this many of the last. 1 leaves it as it is."""
    model: str = "small-cnn"
    """Network, such as small-cnn, resnet18, mlp or timm/NAME; FILE.py:NAME for a function of yours that
    returns one. For classes of images: small-cnn, speed-cnn, speed-cnn-medium, speed-cnn-narrow,
    resnet8, resnet20, resnet18, resnet50; timm/NAME or transformers/NAME if these are installed; a
    function, as FILE.py:NAME or MODULE:NAME, which is given num_classes, num_channels and image_size,
    if it names them; or the folder of a run of --task mae, to fine-tune its encoder. For segmentation:
    segformer-tiny, segformer-b0, upernet-tiny, upernet-resnet50 and others. For mae: mae-tiny,
    mae-small, mae-base. For diffusion: unet-tiny, unet-small, ddpm-cifar10. For tuning: llama-tiny,
    llama-small, gpt2-tiny. These tasks also take a folder that holds such a model, for tuning with its
    tokenizer. For tabular: mlp."""
    pretrained: bool = False
    """Start from the trained weights that timm or transformers has for the network, in place of new
    ones; they are downloaded, unless they were before."""
    stem_stride: Literal[1, 2, 4] = 1
    """Factor by which the first layer of a ResNet shrinks the image: 1 for 32 pixels, 4 for the 224 of
    ImageNet."""
    norm: Literal["batch", "group"] = "batch"
    """Normalization layers: batch, or group, which makes a sample's output independent of the rest of
    its batch and of the number of processes."""
    epochs: float = 15
    """Length of the run in epochs; a fraction cuts the last epoch short."""
    batch_size: int = 128
    """Samples in a step, over all processes together."""
    delta: float | None = None
    """Share of the run after which all data is used again (annealing); by default 1, which is none,
    with a target or a budget of noise, and else 0.875."""
    warmup_epochs: int = 1
    """Number of unpruned epochs at the start."""
    target: float | tuple[int, ...] | None = None
    """Share of the run's samples to leave out, which is met exactly, without --policy by spaced;
    by default the policy decides."""
    ramp: float = 0.0
    """How that share is spread over the epochs: -1 prunes most in the first, 0 evenly, 1 most in the
    last."""
    normalizer: Normalizer = "batch"
    """What the weighted losses of a batch are divided by: batch divides by the batch size; mean does,
    too, and divides the weights by their mean over the epoch; weights divides by the sum of the batch's
    weights (for lars and lamb)."""
    shrink: Literal["auto", "steps", "batches"] = "auto"
    """What a pruned epoch has less of: steps; or samples in a batch (batches), with as many steps and
    the schedule as on full data. auto takes what the policy is made for: batches for noise-budget, steps
    for the others."""
    least_batch: int = 2
    """Where batches shrink: fewest samples in a batch of each process."""
    batch_multiple: int = 1
    """Where batches shrink: a batch of each process has a multiple of this many samples."""
    batch_norm: Literal["plain", "weighted"] = "plain"
    """Statistics of batch norm in pruned epochs: plain counts what was selected equally; weighted counts
    each sample with its weight, so that they are those of the data."""
    lr_scaling: LRScaling = "none"
    """Multiply the learning rate of pruned epochs by the mean weight of their samples (linear), or by
    its square root (sqrt); for epochs that have fewer steps."""
    prior_scores: str = ""
    """Scores that are known before the first epoch, for use with --warmup-epochs 0: pass computes the
    losses of all samples by a forward pass, and a path names the scores.npz of another run."""
    optimizer: str = "sgd"
    """Optimizer: sgd, nesterov (SGD with Nesterov's momentum, 0.85, and a rate of 64 times --lr for the
    biases of normalization layers), adamw, lars or lamb."""
    lr: float = 0.2
    """Peak learning rate of the schedule."""
    schedule: Literal["one-cycle", "triangle"] = "one-cycle"
    """Learning rate: one-cycle rises from 1/25 of the peak in 30 % of the run and then falls to
    1/250000, while the momentum goes from 0.95 to 0.85 and back; triangle rises in a straight line from
    a fifth of the peak in 15 % of the run and then falls to 0, at a constant momentum."""
    weight_decay: float = 5e-4
    """Weight decay."""
    label_smoothing: float = 0.1
    """Label smoothing, in [0, 1)."""
    clip_norm: float = 0.0
    """Largest norm of a step's gradient; 0 does not clip."""
    ema_decay: float = 0.0
    """Evaluate an exponential moving average of the weights, with this decay per step; 0 evaluates the
    weights themselves."""
    mixup: float = 0.0
    """Mix each image with another one of its batch: alpha of the Beta distribution; 0 for none."""
    cutmix: float = 0.0
    """Paste a box of another image of the batch: alpha of the Beta distribution; 0 for none."""
    cutout: int = 0
    """Blank a square of so many pixels a side of each image, for images that are held in memory; 0 for
    none."""
    eval_every: int = 1
    """Number of epochs between two evaluations; the last epoch is always evaluated."""
    record: bool = False
    """Record each sample's losses of every epoch in dynamics/ in the run's folder, and its margins where
    it has one class: to see which samples are hard, forgotten or mislabelled."""
    probe: int = 0
    """Measure the noise of the gradient on this many training samples at each evaluation; 0 for none."""
    drop_last: bool = False
    """Leave out a last batch that is short; pruned epochs then keep a whole number of batches."""
    seed: int = 0
    """Seed of the initial weights, the order, the selection and the augmentation."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:1 and so on; auto takes cuda if there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Precision of the computation; bf16 and fp16 use autocast, fp16 also scales the gradients. Auto
    takes bf16 where the device computes in it, on a CPU with AVX-512 bf16 or AMX, and fp32 elsewhere."""
    compile: bool = False
    """Compile the network with torch.compile, on CUDA with graphs; a short last batch is not
    compiled."""
    resident: bool = False
    """Send an epoch's order and weights to the device at once, where the data are held there. On CUDA
    a step is then recorded once for each size of batch, as a graph, and played back."""
    workers: int | None = None
    """Loader processes, for data that is decoded as it is read (images, imagenet, segmentation); by
    default as many as there are cores. Other sets are held in memory, and need none."""
    source: str = ""
    """Marks of the files that the functions of --model and --transform come from."""
    data_mark: str = ""
    """A mark of data of the user's own; empty in runs of before there were any."""
    segmentation: SegmentationOptions = field(default_factory=SegmentationOptions)
    mae: MaskedOptions = field(default_factory=MaskedOptions)
    tuning: TuningOptions = field(default_factory=TuningOptions)
    diffusion: DiffusionOptions = field(default_factory=DiffusionOptions)
    tabular: TabularOptions = field(default_factory=TabularOptions)
    own: OwnOptions = field(default_factory=OwnOptions)


@dataclass(frozen=True)
class TrainConfig(CommonConfig):
    """The options of one training run."""

    policy: str = DEFAULT
    """What to leave out: noise-budget, infobatch, spaced, random, none, and others. Unbiased: infobatch,
    percentile-tiers, proportional, neyman, noise-budget, spaced, class-quotas, undersampling, bls,
    random, or none. Biased: rs2, epsilon-greedy, ucb, seta, order-dp, repb, rcap, kakurenbo, ies. By
    scores that are made before the run: forgetting, el2n, grand. Options follow the name, as in
    proportional:floor=0.1."""
    prune_ratio: float = 0.5
    """Share that is left out: for infobatch and bls of the samples below the mean loss, for other
    policies of all samples. Typed without --policy, it stands for infobatch, unless the recipe's
    policy has a ratio."""
    backward_share: float = 1.0
    """Selective backprop, with --policy none: train on this share of each batch, drawn by loss after a
    forward pass over the whole batch; 1 trains on all."""
    proxy: str = ""
    """With --backward-share, choose them by the losses of this smaller network, and take the highest
    (proxy filtering). It is trained along, on every fourth batch."""

    def to_json(self) -> dict[str, Any]:
        """The options as values that JSON has; :meth:`from_json` reads them."""
        values = dataclasses.asdict(self)
        return {**values, **{name: str(values[name]) for name in PATHS if values[name] is not None}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Read the options that :meth:`to_json` gave, now or before an option was added.

        Args:
            values: The value of each option, those of a task's group in a mapping of their own. One that
                is missing has its default, with which a run is as it was without the option.

        Returns:
            The configuration.

        Raises:
            ValueError: If an option is unknown, or one is missing that runs have always had.
        """
        if isinstance(values, Mapping) and (missing := set(ALWAYS_THERE) - values.keys()):
            raise ValueError(f"missing options: {', '.join(sorted(missing))}")
        return _read(cls, values)

    def to_arguments(self, base: TrainConfig | None = None) -> list[str]:
        """What is typed to get this configuration.

        Args:
            base: The configuration that is changed by the arguments; by default that of the task alone.

        Returns:
            The command line's options, such as ``["--lr", "0.1", "--compile"]``.
        """
        arguments = []
        for name, (value, _) in self.differences(base or defaults_of(self.task)).items():
            values = value if isinstance(value, tuple) else (value,)
            if isinstance(value, bool):
                arguments.append(flag(name) if value else flag(_negated(name)))
            elif name not in UNTYPED:
                arguments += [flag(name), *map(typed, values)]
        return arguments

    def options(self) -> dict[str, Any]:
        """All options by their names; an option of a task's group is named ``group.option``."""
        return _flat(self)

    def differences(self, other: TrainConfig) -> dict[str, tuple[Any, Any]]:
        """The options in which two configurations differ.

        Args:
            other: The configuration to compare with.

        Returns:
            By the option's name, own value and other value; an option of a task's group is named
            ``group.option``.
        """
        ours, theirs = _flat(self), _flat(other)
        pairs = {name: (ours[name], theirs[name]) for name in ours}
        return {
            name: pair for name, pair in pairs.items() if pair[0] is not pair[1] and pair[0] != pair[1]
        }


OF_TABLES = {
    "model": "mlp",
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.01,
    "label_smoothing": 0.0,
}
TASK_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "tabular": {"data": "breast-cancer", **OF_TABLES},
    "regression": {"data": "diabetes", **OF_TABLES},
    "diffusion": {
        "model": "unet-tiny",
        "optimizer": "adamw",
        "lr": 1e-3,
        "weight_decay": 0.0,
        "clip_norm": 1.0,
        "normalizer": "mean",
    },
}
"""Defaults of a task that differ from those of the others."""
OF_OWN_TABLES = ("tabular", "regression")
"""The tasks that a table of one's own may be for."""


def of_function(name: str) -> TrainConfig:
    """The configuration of runs that a training function of the user's trains, but for its options.

    Length, batch size and learning rate have no default: only the user knows them.

    Args:
        name: The function, as ``FILE.py:NAME`` or ``MODULE:NAME``.
    """
    unknown: dict[str, Any] = {"epochs": math.nan, "batch_size": 0, "lr": math.nan}
    return TrainConfig(task="own", data="own", model="own", own=OwnOptions(train=name), **unknown)


def of_table(file: Path, target: str, task: str) -> TrainConfig:
    """The configuration of runs on a table in one file, of which a fifth of the rows is held out.

    Args:
        file: The file.
        target: The column to predict.
        task: The task that was typed; one that is not for tables stands for none, and takes classes.
    """
    task = task if task in OF_OWN_TABLES else OF_OWN_TABLES[0]
    return dataclasses.replace(
        defaults_of(task),
        task=task,
        data="table",
        data_dir=file,
        held_out=0.2,
        tabular=TabularOptions(target=target),
    )


def defaults_of(task: str) -> TrainConfig:
    """The configuration of a run for which the task alone is given, but for the name of the task.

    Args:
        task: The task's name.

    Returns:
        The configuration, whose task is still the default one: the task has to be typed.
    """
    return dataclasses.replace(TrainConfig(), **TASK_DEFAULTS.get(task, {}))


def flag(name: str) -> str:
    """What is typed for an option of that name, such as ``--mae.mask-ratio`` for ``mae.mask_ratio``."""
    return "--" + name.replace("_", "-")


def typed(value: object) -> str:
    """What is typed for a value, of a number all digits: ``0.1``, and ``4`` for 4.0."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _negated(name: str) -> str:
    """The name of what turns an option off."""
    group, dot, option = name.rpartition(".")
    return f"{group}{dot}no_{option}"


def _flat(options: Any) -> dict[str, Any]:
    """The options by name, those of a group as ``group.option``."""
    values: dict[str, Any] = {}
    for each in dataclasses.fields(options):
        value = getattr(options, each.name)
        if dataclasses.is_dataclass(value):
            values |= {f"{each.name}.{name}": inner for name, inner in _flat(value).items()}
        else:
            values[each.name] = value
    return values


def _read(options_class: type[T], values: Mapping[str, Any], group: str = "") -> T:
    """Options of a class, or of a group in it, from the values that JSON has for them."""
    if not isinstance(values, Mapping):
        held = f"{group.rstrip('.')} is" if group else "the file holds"
        raise ValueError(f"{held} {values!r}, which is no mapping of options")
    names = [each.name for each in dataclasses.fields(options_class)]  # type: ignore[arg-type]
    if unknown := values.keys() - set(names):
        raise ValueError(f"unknown options: {', '.join(sorted(group + name for name in unknown))}")
    defaults, read = options_class(), {}
    for name in (name for name in names if name in values):
        value, default = values[name], getattr(defaults, name)
        if dataclasses.is_dataclass(default):
            value = _read(type(default), value, f"{name}.")
        elif name in PATHS and value is not None:
            value = Path(value)
        elif isinstance(value, list):
            value = tuple(value)
        read[name] = value
    return options_class(**read)
