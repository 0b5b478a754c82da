"""What can be said of a configuration before any data is read: options that could only fail later."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from infobatch import DynamicPruner, ShrinkBatches
from infobatch.lab.config.policy_spec import make_policy
from infobatch.lab.config.shrinking import shrink_option, shrinks_batches
from infobatch.lab.config.task_options import (
    DiffusionOptions,
    MaskedOptions,
    SegmentationOptions,
    TabularOptions,
    TuningOptions,
)
from infobatch.lab.config.train import OF_OWN_TABLES, PASS, TrainConfig, flag
from infobatch.lab.data import Data, find_source
from infobatch.lab.devices import check_device
from infobatch.lab.models import check_model
from infobatch.lab.names import choose
from infobatch.lab.processes import replicas
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.registry import TASKS, check_policy, check_task
from infobatch.lab.training.optimizers import LAYERWISE, OPTIMIZERS
from infobatch.lab.training.pruner_options import pruner_options
from infobatch.policies import Policy
from infobatch.policies.base import reads_losses

Rules = dict[str, tuple[bool, str]]
"""By the option's name: whether its value holds, and what it must be."""


def check_config(config: TrainConfig) -> None:
    """Refuse a configuration that could only fail later.

    Args:
        config: The run's options.

    Raises:
        ValueError: If an option's value is out of its range, names what does not exist, or does not fit
            another option; also if the device is not here.
        FileNotFoundError: If ``--prior-scores`` names a file that does not exist.
    """
    find_source(config.data)
    check_task(config, set(config.differences(TrainConfig())))
    group_name = "tabular" if config.task in OF_OWN_TABLES else config.task
    if group_name in TASK_RULES:
        group = getattr(config, group_name)
        _require(group, TASK_RULES[group_name](group), f"{group_name}.")
    choose("optimizer", config.optimizer, OPTIMIZERS)
    _require(config, _rules(config))
    protected = torch.zeros(1, dtype=torch.bool) if config.segmentation.protect else None
    policy = make_policy(config, torch.zeros(1, dtype=torch.int64), torch.zeros(1), protected)
    check_policy(config, policy)
    if config.prior_scores:
        _check_prior_scores(config, policy)
    if config.mixup and config.cutmix:
        raise ValueError(f"--mixup is {config.mixup:g} and --cutmix {config.cutmix:g}; give one of them")
    if config.backward_share < 1 and config.policy != "none":
        raise ValueError(
            f"--backward-share is {config.backward_share:g} and --policy {config.policy}; selective "
            "backprop goes through all samples: give --policy none, or leave it out"
        )
    if config.proxy:
        check_model(config.proxy, 1, config.norm)
        if config.backward_share == 1:
            raise ValueError(
                f"--proxy is {config.proxy}, which chooses what is trained of each batch, and "
                "--backward-share is 1, all of it; lower it, such as to 0.5, or leave --proxy out"
            )
    if config.record and config.backward_share < 1:
        raise ValueError(
            f"--backward-share is {config.backward_share:g}, by which only some of the samples whose "
            "losses are known are trained, and --record tells what each epoch trained; leave one of "
            "them out"
        )
    _check_shrinking(config)
    if config.resident:
        _check_resident(config)
    check_device(config.device)


def _check_shrinking(config: TrainConfig) -> None:
    """Raise ``ValueError`` for options of shrinking that would have no effect."""
    if config.policy == "none":
        for name in ("shrink", "batch_norm"):
            value = getattr(config, name)
            if value in ("batches", "weighted"):
                raise ValueError(
                    f"{flag(name)} is {value}, and --policy none leaves nothing out, so that it has no "
                    "effect; leave it out"
                )
    if shrinks_batches(config) and config.lr_scaling != "none":
        raise ValueError(
            f"--lr-scaling is {config.lr_scaling}, which makes up for steps that an epoch has less, and "
            f"with --policy {config.policy} batches shrink, so that it has them all; leave it out, or "
            "give --shrink steps"
        )
    shrink, share = shrink_option(config), config.batch_size // replicas().num_replicas
    if isinstance(shrink, ShrinkBatches) and share <= shrink.smallest:
        raise ValueError(
            f"--batch-size is {config.batch_size}, and with --policy {config.policy} batches shrink, to "
            f"no fewer than {shrink.smallest} samples in a process (--least-batch, --batch-multiple), "
            "so that nothing could be left out; raise it, or give --shrink steps"
        )
    has_none = config.norm == "group" or (
        config.task in ("tabular", "regression") and not config.tabular.batch_norm
    )
    if config.batch_norm == "weighted" and has_none:
        wish = "--norm batch" if config.norm == "group" else "--tabular.batch-norm"
        raise ValueError(
            f"--batch-norm is weighted, and the model has no batch norm; leave it out, or give {wish}"
        )


def _check_resident(config: TrainConfig) -> None:
    """Raise ``ValueError`` for options with which a step cannot be recorded, whatever the device."""
    for option in ("mixup", "cutmix", "lr_scaling", "backward_share"):
        value = getattr(config, option)
        if value != getattr(TrainConfig, option):
            raise ValueError(
                f"{flag(option)} is {value}, which changes a step in ways that --resident does not "
                "record; leave one of them out"
            )
    if config.optimizer in LAYERWISE:
        raise ValueError(
            f"--optimizer is {config.optimizer}, which reads norms of weights at each step, and "
            "--resident records steps that read nothing; give sgd, nesterov or adamw"
        )
    if config.precision == "fp16":
        raise ValueError(
            "--precision is fp16, whose scale is read at each step, and --resident records steps that "
            "read nothing; give --precision bf16"
        )
    if config.schedule != "triangle":
        raise ValueError(
            f"--schedule is {config.schedule}, which changes the momentum at each step, and --resident "
            "records steps of one momentum; give --schedule triangle"
        )


def _require(options: Any, rules: Rules, group: str = "") -> None:
    """Raise ``ValueError`` for the first option whose rule does not hold."""
    for name, (holds, rule) in rules.items():
        if not holds:
            raise ValueError(f"{flag(group + name)} is {getattr(options, name)}; it must be {rule}")


def _rules(config: TrainConfig) -> Rules:
    return {
        "epochs": (0 < config.epochs < math.inf, "above 0 and finite"),
        "held_out": (0 <= config.held_out < 1, "at least 0 and less than 1"),
        "train_samples": (config.train_samples >= 0, "at least 0"),
        "imbalance": (1 <= config.imbalance < math.inf, "at least 1 and finite"),
        "batch_size": (config.batch_size >= 2, "at least 2 (batch norm needs two samples)"),
        "prune_ratio": (0 <= config.prune_ratio < 1, "at least 0 and less than 1"),
        "backward_share": (0 < config.backward_share <= 1, "above 0 and at most 1"),
        "delta": (config.delta is None or 0 <= config.delta <= 1, "between 0 and 1"),
        "ramp": (-1 <= config.ramp <= 1, "between -1 and 1"),
        "warmup_epochs": (config.warmup_epochs >= 0, "at least 0"),
        "lr": (0 < config.lr < math.inf, "above 0 and finite"),
        "weight_decay": (config.weight_decay >= 0, "at least 0"),
        "label_smoothing": (0 <= config.label_smoothing < 1, "at least 0 and less than 1"),
        "eval_every": (config.eval_every >= 1, "at least 1"),
        "probe": (config.probe == 0 or config.probe >= 2, "0, or at least 2"),
        "clip_norm": (config.clip_norm >= 0, "at least 0"),
        "ema_decay": (0 <= config.ema_decay < 1, "at least 0 and less than 1"),
        "mixup": (config.mixup >= 0, "at least 0"),
        "cutmix": (config.cutmix >= 0, "at least 0"),
        "cutout": (config.cutout >= 0, "at least 0"),
        "seed": (config.seed >= 0, "at least 0"),
        "workers": (config.workers is None or config.workers >= 0, "at least 0"),
        "image_size": (config.image_size == 0 or config.image_size >= 8, "at least 8, or 0 for 224"),
        "least_batch": (config.least_batch >= 1, "at least 1"),
        "batch_multiple": (config.batch_multiple >= 1, "at least 1"),
    }


def _segmentation_rules(options: SegmentationOptions) -> Rules:
    return {
        "crop": (options.crop >= 32, "at least 32"),
        "min_scale": (0 < options.min_scale <= 10, "above 0 and at most 10"),
        "max_scale": (
            options.min_scale <= options.max_scale <= 10,
            "at least --segmentation.min-scale, and at most 10",
        ),
        "largest_class": (0 < options.largest_class <= 1, "above 0 and at most 1"),
        "protect": (0 <= options.protect <= 1, "between 0 and 1"),
    }


def _mae_rules(options: MaskedOptions) -> Rules:
    return {
        "mask_ratio": (0 < options.mask_ratio < 1, "between 0 and 1"),
        "patch": (options.patch >= 0, "at least 1, or 0 for the model's own"),
        "smallest_crop": (0 < options.smallest_crop <= 1, "above 0 and at most 1"),
    }


def _tuning_rules(options: TuningOptions) -> Rules:
    return {
        "max_length": (options.max_length >= 8, "at least 8"),
        "num_generated": (options.num_generated >= 0, "at least 0"),
        "lora_rank": (options.lora_rank >= 0, "at least 0"),
        "lora_alpha": (options.lora_alpha > 0, "above 0"),
        "micro_batch": (options.micro_batch >= 0, "at least 0"),
    }


def _diffusion_rules(options: DiffusionOptions) -> Rules:
    return {
        "timesteps": (options.timesteps >= 2, "at least 2"),
        "dropout": (0 <= options.dropout < 1, "at least 0 and less than 1"),
        "test_draws": (options.test_draws >= 1, "at least 1"),
        "num_generated": (options.num_generated >= 2, "at least 2"),
        "sampling_steps": (
            1 <= options.sampling_steps <= options.timesteps,
            f"at least 1 and at most --diffusion.timesteps, {options.timesteps}",
        ),
    }


def _tabular_rules(options: TabularOptions) -> Rules:
    return {
        "layers": (options.layers >= 0, "at least 0"),
        "width": (options.width >= 1, "at least 1"),
    }


TASK_RULES: dict[str, Callable[[Any], Rules]] = {
    "segmentation": _segmentation_rules,
    "mae": _mae_rules,
    "tuning": _tuning_rules,
    "diffusion": _diffusion_rules,
    "tabular": _tabular_rules,
}
"""The rules of each task's own options, which are the group of the task's name."""


def _check_prior_scores(config: TrainConfig, policy: Policy) -> None:
    """Raise an error for prior scores that would have no effect, or are not there."""
    if not reads_losses(policy) or config.backward_share < 1:
        raise ValueError(
            f"--prior-scores is {config.prior_scores}, and --policy {config.policy} reads none; leave "
            "it out"
        )
    if config.warmup_epochs:
        raise ValueError(
            f"--prior-scores is {config.prior_scores}, and --warmup-epochs {config.warmup_epochs}: an "
            "epoch on all data gives newer ones; give --warmup-epochs 0 to prune the first, or leave "
            "--prior-scores out"
        )
    if config.prior_scores != PASS and not Path(config.prior_scores).is_file():
        raise FileNotFoundError(
            f"--prior-scores is {config.prior_scores}, and there is no such file; give pass, or the "
            "scores.npz of a run"
        )


SAMPLE_OPTIONS = ("data", "subset", "held_out", "train_samples", "imbalance", "tabular.target")
"""The options that say which samples are trained, for what, and in which order they are numbered."""


def check_run(config: TrainConfig, data: Data) -> None:
    """Check that a run's options fit its data and the ranks.

    Args:
        config: The run's options.
        data: What it trains and is tested on.

    Raises:
        ValueError: If they do not fit.
    """
    num_replicas = replicas().num_replicas
    if config.batch_size % num_replicas:
        raise ValueError(
            f"--batch-size is {config.batch_size}, which {num_replicas} processes cannot share equally; "
            f"give a multiple of {num_replicas}"
        )
    if config.resident and num_replicas > 1:
        raise ValueError(f"--resident is for one process, and there are {num_replicas}; leave it out")
    if config.backward_share < 1 and num_replicas > 1:
        raise ValueError(
            f"--backward-share is {config.backward_share:g}, and there are {num_replicas} processes; "
            "selective backprop is for one: leave it out, or train on one process"
        )
    if not TASKS[config.task].knows_its_data:
        return
    TASKS[config.task].load().check(config, data)
    unknown = torch.zeros(len(data.train))
    prior = Path(config.prior_scores) if config.prior_scores not in ("", PASS) else None
    if prior is not None:
        _check_same_samples(config, prior)
    options = pruner_options(config, data, unknown, prior)
    pruner = DynamicPruner(range(len(data.train)), config.epochs, **options)
    pruner.loader(config.batch_size // num_replicas, drop_last=config.drop_last)


def _check_same_samples(config: TrainConfig, scores: Path) -> None:
    """Raise ``ValueError`` if the scores are in a run's folder, and its samples are not these."""
    source = RunFolder(scores.parent)
    if not source.exists:
        return
    theirs = source.config().differences(config)
    for name in SAMPLE_OPTIONS:
        if name in theirs:
            other, ours = theirs[name]
            raise ValueError(
                f"--prior-scores {scores} are of a run with {flag(name)} {other}, and this one has "
                f"{flag(name)} {ours}: its samples are others; give scores of the same samples"
            )
    if all(theirs.get("data_mark", ("", ""))):
        raise ValueError(
            f"--prior-scores {scores} are of a run on other data, though both are called {config.data}; "
            "give scores of the same samples"
        )
