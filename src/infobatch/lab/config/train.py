"""What a run is made of; its fields are the options of the command line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor

from infobatch.lab.config import policy_spec
from infobatch.lab.config.task_options import (
    DiffusionOptions,
    MaskedOptions,
    SegmentationOptions,
    TuningOptions,
)
from infobatch.lab.data import DATA_SETS
from infobatch.lab.names import choose
from infobatch.lab.tasks.registry import check_policy, check_task
from infobatch.lab.training.optimizers import OPTIMIZERS
from infobatch.losses import Normalizer
from infobatch.lr import LRScaling
from infobatch.policies import BELOW_MEAN, Policy, Protected, takes
from infobatch.policies.base import reads_losses


@dataclass(frozen=True)
class CommonConfig:
    """What the runs of a comparison have in common."""

    recipe: Annotated[str, tyro.conf.Suppress] = ""
    """The recipe it came from, if any."""
    task: str = "classification"
    """What is learned: classification, segmentation, mae (a masked autoencoder's reconstruction of
    images), diffusion, or tuning, of a language model on instructions."""
    data: str = "mnist5k"
    """Data set: mnist5k, digits (built in), cifar10, cifar100, tiny-imagenet, tiny-imagenet-40, imagenet
    (downloaded, or in --data-dir), or images (your own, in --data-dir). Of segmentation ade20k, or
    camvid (in --data-dir alone); of tuning alpaca, alpaca-cleaned, or bbh or instructions, which are
    local."""
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Folder with parquet files of the hub's layout, or ImageNet's folders of images; also read from
    INFOBATCH_DATA_DIR."""
    subset: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Train on these samples alone: a JSON list of their indices, of a selection made before."""
    held_out: float = 0.0
    """Evaluate on this share of the training set, held out, in place of the test set: to choose by."""
    train_samples: int = 0
    """Train on a fixed random part of so many samples; 0 for all."""
    model: str = "small-cnn"
    """Network: small-cnn, resnet8, resnet20, resnet18, resnet50, timm/NAME if timm is installed, or the
    folder of a run of --task mae, to fine-tune it. Of segmentation segformer-tiny, segformer-b0,
    upernet-tiny, upernet-resnet50, ...; of mae mae-tiny, mae-small, mae-base; of diffusion unet-tiny,
    unet-small, ddpm-cifar10; of tuning llama-tiny, llama-small, gpt2-tiny. Or a folder that holds such a
    model, for tuning with its tokenizer."""
    stem_stride: Literal[1, 2, 4] = 1
    """By what the ResNets' first layer shrinks the image: 1 for 32 pixels, 4 for ImageNet's 224."""
    norm: Literal["batch", "group"] = "batch"
    """batch, or group: samples independent of their batch mates, and of the number of processes."""
    epochs: float = 15
    """Length of the run; a fraction cuts the last epoch short."""
    batch_size: int = 128
    """Samples a step, over all processes together."""
    delta: float = 0.875
    """Share of the run after which all data is used again."""
    warmup_epochs: int = 1
    """Unpruned epochs at the start."""
    target: Annotated[float | tuple[int, ...] | None, tyro.conf.arg(metavar="SHARE")] = None
    """Share of the run's samples to leave out, met exactly; by default the policy decides."""
    ramp: float = 0.0
    """How that share is spread over the epochs: -1 most in the first, 0 evenly, 1 most in the last."""
    normalizer: Normalizer = "batch"
    """Weights as they are, divided by their mean over the epoch, or by the batch's (for lars, lamb)."""
    lr_scaling: LRScaling = "none"
    """Raise the learning rate of pruned epochs by the mean weight of their samples, or its root."""
    scores: str = ""
    """What is known of the samples before the first epoch, with --warmup-epochs 0: pass, their losses by
    a forward pass over all of them, or the scores.npz of another run."""
    optimizer: str = "sgd"
    """sgd, adamw, lars or lamb; the schedule cycles momentum from 0.95 to 0.85 and back."""
    lr: float = 0.2
    """Peak learning rate of the one-cycle schedule: 30 % warm-up from 1/25, then down to 1/250000."""
    weight_decay: float = 5e-4
    """Weight decay."""
    label_smoothing: float = 0.1
    """Label smoothing, in [0, 1)."""
    clip_norm: float = 0.0
    """Largest norm of a step's gradient; 0 leaves it as it is."""
    ema_decay: float = 0.0
    """Evaluate the exponential moving average of the weights, with this decay a step; 0 for none."""
    mixup: float = 0.0
    """Mix each image with another of its batch: alpha of the Beta distribution; 0 for none."""
    cutmix: float = 0.0
    """Paste a box of another image of the batch: alpha of the Beta distribution; 0 for none."""
    eval_every: int = 1
    """Epochs from one evaluation to the next; the last epoch has one in any case."""
    probe: int = 0
    """Measure the noise of the gradient on so many training samples, at each evaluation; 0 for none."""
    drop_last: bool = False
    """Leave out a last short batch; pruned epochs then keep a whole number of batches."""
    seed: int = 0
    """Seed of the initial weights, the order, the selection and the augmentation."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes cuda where there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """bf16 and fp16 compute under autocast, fp16 with scaled gradients."""
    compile: bool = False
    """torch.compile the network, on CUDA with graphs; a last short batch runs uncompiled."""
    workers: int = 0
    """Loader processes: for ImageNet and segmentation, decoded as read; other sets are in memory."""
    segmentation: SegmentationOptions = field(default_factory=SegmentationOptions)
    mae: MaskedOptions = field(default_factory=MaskedOptions)
    tuning: TuningOptions = field(default_factory=TuningOptions)
    diffusion: DiffusionOptions = field(default_factory=DiffusionOptions)


@dataclass(frozen=True)
class TrainConfig(CommonConfig):
    """One training run."""

    policy: str = "infobatch"
    """What to leave out: infobatch, percentile-tiers, proportional, neyman, class-quotas, bls, random,
    or none; of the biased rules rs2, epsilon-greedy, ucb, seta, order-dp, repb, rcap, kakurenbo or ies;
    by scores made beforehand forgetting, el2n or grand. With options of its own:
    proportional:floor=0.1."""
    prune_ratio: float = 0.5
    """InfoBatch: share of the below-average samples left out; other policies: of all samples."""
    backward_share: float = 1.0
    """Selective backprop, with --policy none: after a forward pass of a batch train on this share of it,
    drawn by loss; 1 trains on all."""

    def check(self) -> None:
        """Raise ``ValueError`` for what could only fail later."""
        choose("data set", self.data, DATA_SETS)
        check_task(self, set(self.differences(TrainConfig())))
        group = getattr(self, self.task, None)
        if group is not None:
            group.check()
        choose("optimizer", self.optimizer, OPTIMIZERS)
        bounds = {
            "--epochs": (0 < self.epochs < math.inf, "above 0 and finite"),
            "--held-out": (0 <= self.held_out < 1, "at least 0 and less than 1"),
            "--train-samples": (self.train_samples >= 0, "at least 0"),
            "--batch-size": (self.batch_size >= 2, "at least 2 (batch norm needs two samples)"),
            "--prune-ratio": (0 <= self.prune_ratio < 1, "at least 0 and less than 1"),
            "--backward-share": (0 < self.backward_share <= 1, "above 0 and at most 1"),
            "--delta": (0 <= self.delta <= 1, "between 0 and 1"),
            "--ramp": (-1 <= self.ramp <= 1, "between -1 and 1"),
            "--warmup-epochs": (self.warmup_epochs >= 0, "at least 0"),
            "--lr": (0 < self.lr < math.inf, "above 0 and finite"),
            "--weight-decay": (self.weight_decay >= 0, "at least 0"),
            "--label-smoothing": (0 <= self.label_smoothing < 1, "at least 0 and less than 1"),
            "--eval-every": (self.eval_every >= 1, "at least 1"),
            "--probe": (self.probe == 0 or self.probe >= 2, "0, or at least 2"),
            "--clip-norm": (self.clip_norm >= 0, "at least 0"),
            "--ema-decay": (0 <= self.ema_decay < 1, "at least 0 and less than 1"),
            "--mixup": (self.mixup >= 0, "at least 0"),
            "--cutmix": (self.cutmix >= 0, "at least 0"),
            "--seed": (self.seed >= 0, "at least 0"),
            "--workers": (self.workers >= 0, "at least 0"),
        }
        for typed, (holds, rule) in bounds.items():
            if not holds:
                value = getattr(self, typed[2:].replace("-", "_"))
                raise ValueError(f"{typed} is {value}; it must be {rule}")
        protected = torch.zeros(1, dtype=torch.bool) if self.segmentation.protect else None
        policy = self.make_policy(torch.zeros(1, dtype=torch.int64), torch.zeros(1), protected)
        check_policy(self, policy)
        if self.scores:
            self._check_scores(policy)
        if self.mixup and self.cutmix:
            raise ValueError(f"--mixup is {self.mixup:g} and --cutmix {self.cutmix:g}; give one of them")
        if self.backward_share < 1 and self.policy != "none":
            raise ValueError(
                f"--backward-share is {self.backward_share:g} and --policy {self.policy}; selective "
                "backprop goes through all samples: give --policy none, or leave it out"
            )
        self.torch_device()

    def _check_scores(self, policy: Policy) -> None:
        if not reads_losses(policy) or self.backward_share < 1:
            raise ValueError(
                f"--scores is {self.scores}, and --policy {self.policy} reads none; leave it out"
            )
        if self.warmup_epochs:
            raise ValueError(
                f"--scores is {self.scores}, and --warmup-epochs {self.warmup_epochs}: an epoch on all "
                "data gives newer ones; give --warmup-epochs 0 to prune the first, or leave --scores out"
            )
        if self.scores != PASS and not Path(self.scores).is_file():
            raise FileNotFoundError(
                f"--scores is {self.scores}, and there is no such file; give pass, or the scores.npz of "
                "a run"
            )

    def torch_device(self) -> torch.device:
        if self.device == "auto":
            if not torch.cuda.is_available():
                return torch.device("cpu")
            return torch.device("cuda", torch.cuda.current_device())
        try:
            device = torch.device(self.device)
        except RuntimeError:
            raise ValueError(f"--device is {self.device!r}; it must be auto, cpu or cuda") from None
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"--device is {self.device!r}, but PyTorch finds no CUDA device here")
        return device

    def make_policy(
        self,
        labels: Tensor | None = None,
        scores: Tensor | None = None,
        protected: Tensor | None = None,
    ) -> Policy:
        """``labels`` and ``scores``: of the training samples, (N,), for policies that ask for them.

        ``protected``: which of them are kept in every epoch, bool (N,).
        """
        name = policy_spec.name_of(self.policy)
        policy_spec.kind_of(self.policy)
        if labels is None and takes(name, "labels"):
            raise ValueError(
                f"--policy {name} goes by the class of each sample, and {self.data} gives --task "
                f"{self.task} no single class; take another"
            )
        known: dict[str, Any] = {"labels": labels, "scores": scores}
        if name in BELOW_MEAN or self.target is None:  # else the target says how many
            known["prune_ratio"] = self.prune_ratio
        made = policy_spec.make(self.policy, **{key: known[key] for key in known if takes(name, key)})
        return made if protected is None or name == "none" else Protected(made, protected)

    def to_json(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        return {**values, **{name: str(values[name]) for name in PATHS if values[name] is not None}}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainConfig:
        """Reads what older releases wrote, too: options they did not know are at their defaults."""
        read: dict[str, Any] = {"data": values["data"], "policy": values["policy"]}
        defaults = cls()
        for name in (each.name for each in dataclasses.fields(cls)):
            default = getattr(defaults, name)
            value = values.get(name, default)
            if name in PATHS and value is not None:
                value = Path(value)
            elif isinstance(value, list):
                value = tuple(value)
            elif isinstance(value, dict):
                value = dataclasses.replace(default, **value)
            read[name] = value
        unknown = values.keys() - read.keys()
        if unknown:
            raise TypeError(f"unknown options {', '.join(sorted(unknown))}")
        return cls(**read)

    def to_arguments(self, base: TrainConfig | None = None) -> list[str]:
        """The command-line options that make this configuration of ``base``, or of the defaults."""
        arguments = []
        for name, (value, _) in self.differences(base or TrainConfig()).items():
            values = value if isinstance(value, tuple) else (value,)
            if isinstance(value, bool):
                arguments.append(flag(name) if value else flag(negated(name)))
            elif name != "recipe":
                arguments += [
                    flag(name),
                    *(f"{v:g}" if isinstance(v, float) else str(v) for v in values),
                ]
        return arguments

    def differences(self, other: TrainConfig) -> dict[str, tuple[Any, Any]]:
        """The options in which the two differ: name, own value, other's."""
        ours, theirs = flat(self), flat(other)
        return {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}

    def overridden(self, options: CommonConfig, given: Collection[str]) -> TrainConfig:
        """A copy with the options named in ``given`` taken from ``options``."""
        values = flat(options)
        return changed(self, {name: values[name] for name in given})


PASS = "pass"
"""The --scores that are losses at the initial weights."""
PATHS = ("data_dir", "subset")
"""Options that are paths."""


def flat(options: Any) -> dict[str, Any]:
    """The options by name, those of a group as ``group.option``."""
    values: dict[str, Any] = {}
    for each in dataclasses.fields(options):
        value = getattr(options, each.name)
        if dataclasses.is_dataclass(value):
            values |= {f"{each.name}.{name}": inner for name, inner in flat(value).items()}
        else:
            values[each.name] = value
    return values


def changed(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """A copy with other ``values``, named as :func:`flat` does."""
    own = {name: value for name, value in values.items() if "." not in name}
    groups: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        group, dot, option = name.partition(".")
        if dot:
            groups.setdefault(group, {})[option] = value
    made = {group: dataclasses.replace(getattr(config, group), **own) for group, own in groups.items()}
    return dataclasses.replace(config, **own, **made)


def flag(name: str) -> str:
    """What is typed for an option."""
    return "--" + name.replace("_", "-")


def negated(name: str) -> str:
    """What is typed, with hyphens, to turn an option off."""
    group, dot, option = name.rpartition(".")
    return f"{group}{dot}no_{option}"


OPTIONS = tuple(flat(TrainConfig()))
