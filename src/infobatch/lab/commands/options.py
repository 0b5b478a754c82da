"""Whole configurations made of what was typed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from infobatch.lab.commands.arguments import Typed
from infobatch.lab.commands.console import console
from infobatch.lab.commands.saving import refuse_both, refuse_target, share_of
from infobatch.lab.commands.subsets import read_indices
from infobatch.lab.comparison.command import start_of
from infobatch.lab.config.noise_budget import BUDGETED, budget_of, with_budget
from infobatch.lab.config.policy_spec import BELOW_MEAN, has_prune_ratio, name_of
from infobatch.lab.config.shrinking import shrinks_batches
from infobatch.lab.config.train import TrainConfig, defaults_of, flag, of_function, of_table
from infobatch.lab.data import local_folder
from infobatch.lab.data.marks import mark_of
from infobatch.lab.data.table_files import is_table, named_table
from infobatch.lab.devices import computes_in_bf16, resolve_device, resolve_precision
from infobatch.lab.functions import is_function
from infobatch.lab.recipes import find_recipe
from infobatch.lab.runs.same_options import PLACE_OPTIONS
from infobatch.lab.runs.sources import check_data, check_sources, sources_of
from infobatch.lab.training.scoring_costs import pruned_throughout
from infobatch.lab.training.validate import check_config
from infobatch.policies import DEFAULT_FOR_TARGET, POLICIES

RATIO = "infobatch"
"""The policy that ``--prune-ratio`` alone stands for."""


def started(options: Typed, recipe: str, save: float | None, noise: float | None = None) -> TrainConfig:
    """The configuration of a new run.

    Args:
        options: What was typed.
        recipe: The recipe whose options are taken where nothing was typed; empty for the task's own.
        save: Percentage of the samples to leave out, by the policy for targets unless one was typed.
        noise: Budget of noise, of the policy that has one unless another was typed, which is an error.

    Returns:
        The configuration.

    Raises:
        ValueError: If an option was typed that the run's policy has no use for.
    """
    base = base_of(options, recipe)
    if save is not None and noise is not None:
        refuse_both(f"{noise:g}", f"--save {save:g}")
    if save is not None:
        refuse_target(options.over(replace(base, target=None)), f"{save:g}")
    base = replace(base, policy=_policy_meant(options, base, save, noise))
    config = _saving(options.over(base), save)
    if noise is not None:
        spec = with_budget(config.policy, noise)
        if config.target is not None:
            refuse_both(f"{noise:g}", f"--target {config.target}")
    name = name_of(config.policy)
    if _ratio_typed(options, base) and name in POLICIES and not has_prune_ratio(name):
        raise ValueError(
            f"--prune-ratio is {config.prune_ratio:g}, but the policy {config.policy} has none; leave "
            "it out, or take another --policy, such as infobatch"
        )
    if _ratio_typed(options, base) and config.target is not None and name not in BELOW_MEAN:
        given = f"--target {config.target}" if save is None else f"--save {save:g}"
        raise ValueError(
            f"--prune-ratio is {config.prune_ratio:g}, but {given} says how much {name} leaves out; "
            "give one of them"
        )
    config = _saving(options.over(pruned_throughout(replace(base, policy=config.policy))), save)
    if noise is not None:
        config = replace(config, policy=spec)
    check_effects([config], base)
    for option, (value, only) in config.differences(pruned_throughout(config)).items():
        raise ValueError(
            f"{flag(option)} is {value}, but {name} keeps the same samples from the "
            f"first epoch to the last, so that it is {only:g}; leave it out"
        )
    return on_this_machine(config)


def shared(options: Typed, recipe: str) -> TrainConfig:
    """The configuration that the runs of a sweep or a contest have in common.

    Args:
        options: What was typed.
        recipe: The recipe whose options are taken where nothing was typed, or a table of the user's.

    Returns:
        The configuration, of a policy that all options go with; those of the runs are put in its place.

    Raises:
        ValueError: For a training function of the user's.
    """
    if is_function(recipe) and not is_table(recipe):
        raise ValueError(
            f"{recipe} is a training function, which infobatch compare takes: one policy at a time"
        )
    config = options.over(base_of(options, recipe))
    return on_this_machine(replace(config, policy=RATIO))


def _policy_meant(options: Typed, base: TrainConfig, save: float | None, noise: float | None) -> str:
    """The policy of a run for which none is typed, by what is typed of how much is left out."""
    if noise is not None:
        return BUDGETED
    if save is not None:
        return DEFAULT_FOR_TARGET
    if _ratio_typed(options, base):
        return base.policy if has_prune_ratio(name_of(base.policy)) else RATIO
    if options.over(replace(base, target=None)).target is not None:
        return DEFAULT_FOR_TARGET
    return base.policy


def _ratio_typed(options: Typed, base: TrainConfig) -> bool:
    """Whether ``--prune-ratio`` was typed."""
    return not math.isnan(options.over(replace(base, prune_ratio=math.nan)).prune_ratio)


def base_of(options: Typed, recipe: str) -> TrainConfig:
    """The configuration that is taken where nothing was typed: a recipe's, a table's, a task's own.

    Args:
        options: What was typed.
        recipe: The recipe's name, a table or a function of the user's; empty for the task's own.
    """
    typed = options.over(TrainConfig())
    task = typed.task
    taken = next(filter(is_table, typed.tabular.leave_out), None)
    if not recipe and taken:
        raise ValueError(
            f"--tabular.leave-out took {taken} for a column; type the table before the options"
        )
    if is_table(recipe):
        file, target = named_table(recipe)
        return of_table(file, target, task)
    if is_function(recipe):
        return of_function(recipe)
    return find_recipe(recipe).config() if recipe else defaults_of(task)


def check_effects(configs: Sequence[TrainConfig], base: TrainConfig) -> None:
    """Refuse options that were typed, and have an effect in none of the runs.

    Args:
        configs: The options of the runs; none where no policy can take part.
        base: What they are where nothing was typed.

    Raises:
        ValueError: If there is such an option.
    """
    if not configs:
        return
    config = configs[0]
    if config.ramp and all(each.target is None for each in configs):
        raise ValueError(
            f"--ramp is {config.ramp:g}, but no share of the samples to leave out was given for it to "
            "spread; give --save, such as --save 40"
        )
    for option in ("least_batch", "batch_multiple"):
        value = getattr(config, option)
        if value != getattr(base, option) and not any(map(shrinks_batches, configs)):
            raise ValueError(
                f"{flag(option)} is {value}, but with --policy {config.policy} pruned epochs have fewer "
                "steps, and batches stay as they are; give --shrink batches, or leave it out"
            )


def resumed(
    options: Typed,
    recipe: str,
    save: float | None,
    saved: TrainConfig,
    noise: float | None = None,
) -> TrainConfig:
    """The configuration that an unfinished run was started with.

    Args:
        options: What was typed.
        recipe: The recipe that was typed; empty for none.
        save: The percentage that was typed, if any.
        saved: The run's configuration.
        noise: The budget of noise that was typed, if any.

    Returns:
        ``saved``, at the place that was typed: its folder of data, its device, its workers. And with the
        name that was typed of what the user's function returns.

    Raises:
        ValueError: If anything else was typed that differs from it, or the user's code or data have
            changed.
    """
    typed: dict[str, tuple[Any, Any]] = {}
    if recipe:
        typed["the recipe"] = (recipe, start_of(saved)[0])
    if save is not None:
        is_share = isinstance(saved.target, float)
        typed["--save"] = (f"{save:g}", f"{100 * saved.target:g}" if is_share else None)  # type: ignore[operator]
    if noise is not None:
        then = budget_of(saved)
        typed["--noise"] = (f"{noise:g}", None if then is None else f"{then:g}")
    now = options.over(saved)
    moved = replace(saved, **{name: getattr(now, name) for name in PLACE_OPTIONS})
    if saved.task == "own":
        metric, lower = now.own.metric, now.own.lower_is_better
        moved = replace(moved, own=replace(saved.own, metric=metric, lower_is_better=lower))
    differences = now.differences(moved)
    typed |= {flag(name): values for name, values in differences.items()}
    for what, (value, then) in typed.items():
        if value != then:
            before = "without it" if then in (None, "") else f"with {then}"
            raise ValueError(
                f"{what} is {value}, but the run was started {before}; leave it out to go on, or start "
                "another run"
            )
    check_sources(moved)
    check_data(moved)
    return moved


def _saving(config: TrainConfig, save: float | None) -> TrainConfig:
    """The configuration with the share of the samples to leave out that ``--save`` gives."""
    return config if save is None else replace(config, target=share_of(save, "--save", save))


def on_this_machine(config: TrainConfig) -> TrainConfig:
    """The configuration with what is recorded of this machine.

    Args:
        config: The run's options.

    Returns:
        The options with the precision that ``auto`` stands for here, and marks of the user's code and
        data.

    Raises:
        ValueError: If that code is not there.
    """
    precision = resolve_precision(config.precision, resolve_device(config.device))
    data_mark = mark_of(config.data, local_folder(config.data_dir), config.test)
    return replace(
        config,
        precision=precision,  # type: ignore[arg-type]
        source=sources_of(config),
        data_mark=data_mark,
    )


def check_options(config: TrainConfig) -> None:
    """Refuse a configuration that could only fail later, or a large recipe without a GPU.

    It says where a precision is asked for that the device only emulates.

    Args:
        config: The run's options.

    Raises:
        ValueError: If the run could not be trained; see also :func:`check_config`.
    """
    check_config(config)
    if config.subset is not None:
        read_indices(config.subset)
    device = resolve_device(config.device)
    on_cpu = device.type == "cpu"
    if config.precision == "bf16" and not computes_in_bf16(device):
        console.print(
            f"--precision is bf16, which {device} only emulates: on a CPU a step was 11 times slower "
            "than in fp32. Give --precision auto, which is fp32 here.",
        )
    if config.recipe and find_recipe(config.recipe).needs_gpu and on_cpu and config.device == "auto":
        raise ValueError(
            f"the recipe {config.recipe} needs a GPU, and PyTorch finds no CUDA device here; give "
            "--device cpu to run it all the same, or take a small recipe (`infobatch recipes`)"
        )
