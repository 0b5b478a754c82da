"""What a run is made of; its fields are the options of the command line."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from infobatch.lab.data import DATA_SETS
from infobatch.lab.models import MODELS
from infobatch.lab.names import choose
from infobatch.policies import POLICIES, InfoBatch, Policy, RandomPruning


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    data: str = "mnist5k"
    """Data set: mnist5k or digits (built in), cifar10 or cifar100 (downloaded, or in --data-dir)."""
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Folder with parquet files of the hub's layout; also read from INFOBATCH_DATA_DIR."""
    model: str = "small-cnn"
    """Network: small-cnn, resnet8, resnet20, resnet18 or resnet50."""
    epochs: float = 15
    """Length of the run; a fraction cuts the last epoch short."""
    batch_size: int = 128
    """Samples a step."""
    policy: str = "infobatch"
    """What to leave out: infobatch, percentile-tiers, random or none."""
    prune_ratio: float = 0.5
    """InfoBatch: share of the below-average samples left out; random: of all samples."""
    delta: float = 0.875
    """Share of the run after which all data is used again."""
    warmup_epochs: int = 1
    """Unpruned epochs at the start."""
    target: Annotated[float | tuple[int, ...] | None, tyro.conf.arg(metavar="SHARE")] = None
    """Share of the run's samples to leave out, met exactly; by default the policy decides."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd has momentum 0.9."""
    lr: float = 0.2
    """Peak learning rate of the one-cycle schedule (30 % warm-up, from 1/25, down to 1/250000)."""
    weight_decay: float = 5e-4
    """Weight decay."""
    label_smoothing: float = 0.1
    """Label smoothing, in [0, 1)."""
    seed: int = 0
    """Seed of the initial weights, the order, the selection and the augmentation."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes cuda where there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 computes under autocast."""
    workers: int = 0
    """Loader processes; the data is in memory, so they seldom help."""

    def check(self) -> None:
        """Raise ``ValueError`` for what could only fail later."""
        choose("data set", self.data, DATA_SETS)
        choose("model", self.model, MODELS)
        choose("policy", self.policy, POLICIES)
        bounds = {
            "--epochs": (self.epochs > 0, "above 0"),
            "--batch-size": (self.batch_size >= 2, "at least 2 (batch norm needs two samples)"),
            "--prune-ratio": (0 <= self.prune_ratio < 1, "at least 0 and less than 1"),
            "--delta": (0 <= self.delta <= 1, "between 0 and 1"),
            "--warmup-epochs": (self.warmup_epochs >= 0, "at least 0"),
            "--lr": (self.lr > 0, "above 0"),
            "--weight-decay": (self.weight_decay >= 0, "at least 0"),
            "--label-smoothing": (0 <= self.label_smoothing < 1, "at least 0 and less than 1"),
            "--seed": (self.seed >= 0, "at least 0"),
            "--workers": (self.workers >= 0, "at least 0"),
        }
        for flag, (holds, rule) in bounds.items():
            if not holds:
                value = getattr(self, flag[2:].replace("-", "_"))
                raise ValueError(f"{flag} is {value}; it must be {rule}")
        self.torch_device()

    def torch_device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError:
            raise ValueError(f"--device is {self.device!r}; it must be auto, cpu or cuda") from None
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"--device is {self.device!r}, but PyTorch finds no CUDA device here")
        return device

    def make_policy(self) -> Policy:
        kind = choose("policy", self.policy, POLICIES)
        return kind(self.prune_ratio) if kind in (InfoBatch, RandomPruning) else kind()

    def to_json(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        return {**values, "data_dir": str(self.data_dir) if self.data_dir else None}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainConfig:
        target, data_dir = values["target"], values["data_dir"]
        values = {**values, "data_dir": Path(data_dir) if data_dir else None}
        if isinstance(target, list):
            values["target"] = tuple(target)
        return cls(**values)

    def to_arguments(self) -> list[str]:
        """The command-line options that make this configuration, without those at their default."""
        arguments = []
        for name, (value, _) in self.differences(TrainConfig()).items():
            values = value if isinstance(value, tuple) else (value,)
            texts = [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
            arguments += ["--" + name.replace("_", "-"), *texts]
        return arguments

    def differences(self, other: TrainConfig) -> dict[str, tuple[Any, Any]]:
        """The options in which the two differ: name, own value, other's."""
        names = [field.name for field in dataclasses.fields(self)]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
