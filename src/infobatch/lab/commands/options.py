"""What was typed, made into whole configurations, checked, and the data they name."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infobatch.lab.commands.console import console
from infobatch.lab.comparison.comparison import Variant
from infobatch.lab.config.policy_spec import name_of
from infobatch.lab.config.train import CommonConfig, TrainConfig, flag, flat, negated
from infobatch.lab.data import DOWNLOADS, Data, load_data, local_folder
from infobatch.lab.names import choose
from infobatch.lab.recipes import find_recipe
from infobatch.lab.tasks.registry import TASKS
from infobatch.lab.training.scoring_costs import pruned_throughout
from infobatch.policies import POLICIES, RECOMMENDED, has_prune_ratio


def of_recipe(name: str, options: TrainConfig, save: float | None = None) -> TrainConfig:
    """The recipe's options, but for those that were typed; without a recipe, all as they are.

    ``save``: the percentage of the samples to leave out, by the recommended policy unless one was typed.
    """
    typed = typed_options(options)
    config = find_recipe(name).config().overridden(options, typed) if name else options
    if save is not None:
        config = replace(config, target=share_of(save, "--save", save))
        if "policy" not in typed:
            config = replace(config, policy=RECOMMENDED)
    if config.ramp and config.target is None:
        raise ValueError(
            f"--ramp is {config.ramp:g}, but no share of the samples to leave out was given for it to "
            "spread; give --save, such as --save 40"
        )
    name = name_of(config.policy)
    if "prune_ratio" in typed and name in POLICIES and not has_prune_ratio(name):
        raise ValueError(
            f"--prune-ratio is {config.prune_ratio:g}, but the policy {config.policy} has none; leave "
            "it out, or take another --policy, such as infobatch"
        )
    fixed = pruned_throughout(config)
    for option, (value, only) in config.differences(fixed).items():
        if option in typed:
            raise ValueError(
                f"{flag(option)} is {value}, but {name} keeps the same samples from the "
                f"first epoch to the last, so that it is {only:g}; leave it out"
            )
    return fixed


def typed_options(options: CommonConfig) -> list[str]:
    """Those of the options that stand on the command line, not left at their defaults."""
    flags = [text.split("=")[0] for text in sys.argv[2:] if text.startswith("--")]
    names = {flag[2:].replace("-", "_") for flag in flags}
    return [name for name in flat(options) if names & {name, negated(name)}]


def saved_options(given: TrainConfig, saved: TrainConfig) -> TrainConfig:
    """The options a run was started with; refuses others given now."""
    for name, (now, then) in given.differences(saved).items():
        if name in typed_options(given):
            raise ValueError(
                f"{flag(name)} is {now}, but the run was started with {then}; leave it out to go on, or "
                "start another run"
            )
    return saved


def check_config(config: TrainConfig) -> None:
    """Raise an error for what could only fail later."""
    config.check()
    on_cpu = config.torch_device().type == "cpu"
    if config.recipe and find_recipe(config.recipe).needs_gpu and on_cpu and config.device == "auto":
        raise ValueError(
            f"the recipe {config.recipe} needs a GPU, and PyTorch finds no CUDA device here; give "
            "--device cpu to run it all the same, or take a small recipe (`infobatch recipes`)"
        )


def load(config: TrainConfig) -> Data:
    if config.data in DOWNLOADS and local_folder(config.data_dir) is None:
        size = DOWNLOADS[config.data]
        console.print(f"{config.data} is downloaded ({size}), unless it was before", highlight=False)
    own: dict[str, Any] = {}
    if config.task == "segmentation":
        own = {"skip_bad": config.segmentation.skip_bad, "say": partial(console.print, highlight=False)}
    data = load_data(config.data, config.data_dir, **own)
    if config.subset is not None:
        data = data.of_training(read_subset(config.subset, len(data.train)))
    if config.held_out or config.train_samples:
        data = data.split(config.held_out, config.train_samples)
    data = TASKS[config.task].prepare(config, data)
    for note in data.notes:
        console.print(note, highlight=False)
    return data


def read_subset(path: Path, num_samples: int) -> Tensor:
    """The indices of samples in a JSON list, int64, each once and in order.

    ``num_samples``: of the set that they are chosen from. ``ValueError`` if it holds anything else.
    """
    try:
        indices = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"--subset {path} cannot be read as JSON ({error}); give a list") from error
    if not isinstance(indices, list) or not indices or not all(type(i) is int for i in indices):
        raise ValueError(f"--subset {path} holds no list of indices; give one such as [0, 3, 4]")
    chosen = torch.tensor(sorted(set(indices)))
    outside = [index for index in indices if not 0 <= index < num_samples]
    if outside:
        raise ValueError(
            f"--subset {path} has the index {outside[0]}, but the training set has {num_samples:,} "
            f"samples; give indices in 0..{num_samples - 1}"
        )
    if len(chosen) < len(indices):
        raise ValueError(
            f"--subset {path} has {len(indices):,} indices, of which {len(chosen):,} are different; "
            "give each once"
        )
    return chosen


def variants_of(policies: str, prune_ratio: str) -> list[Variant]:
    ratios = numbers("--prune-ratio", prune_ratio, "0.3,0.5,0.7")
    variants = []
    for policy in policies.split(","):
        choose("policy", name_of(policy), POLICIES)
        has_ratio = has_prune_ratio(name_of(policy))
        variants += [Variant(policy, ratio) for ratio in ratios] if has_ratio else [Variant(policy)]
    return list(dict.fromkeys(variants))


def share_of(percentage: float, flag: str, typed: object) -> float:
    """A percentage of the samples to leave out, as a share."""
    if not 1 <= percentage < 100:
        raise ValueError(f"{flag} is {typed!r}; give percentages from 1 on and below 100, such as 30")
    return percentage / 100


def numbers(flag: str, text: str, example: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{flag} is {text!r}; give numbers, such as {example}") from None
