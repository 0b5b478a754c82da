"""The command lines that repeat a comparison."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.variants import ON_REQUEST, Variant, reads_ratio
from infobatch.lab.config.noise_budget import without_budget
from infobatch.lab.config.train import TrainConfig, defaults_of, of_function, of_table, typed
from infobatch.lab.data.table_files import own_file
from infobatch.lab.recipes import RECIPES
from infobatch.policies import DEFAULT_FOR_TARGET


def commands_of(comparison: Comparison) -> list[str]:
    """The command lines that repeat a comparison: compare, sweep or contest with its options.

    Args:
        comparison: The comparison.

    Returns:
        A line for a shell, without the device; several, of one folder, for a sweep whose policies have
        other prune ratios than one another.
    """
    variants, config = comparison.variants, replace(comparison.config, device="auto")
    options = ["--seeds", str(comparison.num_seeds)]
    if comparison.margin is not None:
        options += ["--margin", typed(comparison.margin)]
    choices: list[list[str]] = [[]]
    if comparison.is_contest:
        name, choices = "contest", [_of_contest(variants)]
    elif len(variants) == 1 and comparison.controls:
        name = "compare"
        config = replace(config, policy=variants[0].policy, prune_ratio=variants[0].prune_ratio)
    else:
        name, choices = "sweep", _of_sweep(variants, config.target is not None)
    controls = [] if comparison.controls else ["--no-controls"]
    controls += [option for kind, option in ON_REQUEST.items() if kind in comparison.also]
    start, base = start_of(config)
    if name != "compare":  # its policies are typed as such
        config = replace(config, policy=base.policy)
    elif config.target != base.target:  # which alone stands for a policy of its own
        base = replace(base, policy=DEFAULT_FOR_TARGET)
    command = ["infobatch", name, *filter(None, [start]), *config.to_arguments(base), *options]
    return [shlex.join([*command, *choice, *controls]) for choice in choices]


def start_of(config: TrainConfig) -> tuple[str, TrainConfig]:
    """What a configuration starts from: a function or a table of the user's, a recipe, or its task.

    Args:
        config: The configuration.

    Returns:
        What is typed after the command's name, empty for a task, and the configuration that it gives
        where no option is typed.
    """
    if config.task == "own":
        return config.own.train, of_function(config.own.train)
    if (file := own_file(config.data, config.data_dir)) is not None:
        target = config.tabular.target
        return f"{file}:{target}", of_table(file, target, "")
    recipe = RECIPES.get(config.recipe)
    return config.recipe, recipe.config() if recipe else defaults_of(config.task)


def _of_contest(variants: Sequence[Variant]) -> list[str]:
    """What is typed for the variants of a contest."""
    targets = dict.fromkeys(v.target for v in variants if v.target is not None)
    specs = [without_budget(v.policy) if v.target is None else (v.policy, None) for v in variants]
    noises = _listed(noise for _, noise in specs if noise is not None)
    saved = _listed(round(100 * target, 9) for target in targets)
    options = ["--policies", _listed(policy for policy, _ in specs), "--save", saved]
    return [*options, "--noise", noises] if noises else options


def _of_sweep(variants: Sequence[Variant], has_target: bool) -> list[list[str]]:
    """What is typed for the variants of a sweep, once for each choice of prune ratios.

    One command takes each of its policies at each of its ratios, which those that were added to a folder
    need not be.
    """
    ratios: dict[str, list[float]] = {variant.policy: [] for variant in variants}
    for variant in variants:
        if reads_ratio(variant.policy, has_target):
            ratios[variant.policy].append(variant.prune_ratio)
    listed = {policy: _listed(own) for policy, own in ratios.items()}
    first = next(filter(None, listed.values()), "")
    choices: dict[str, list[str]] = {}
    for policy, choice in listed.items():
        choices.setdefault(choice or first, []).append(policy)
    return [
        ["--policies", _listed(policies), *(["--prune-ratio", choice] if choice else [])]
        for choice, policies in choices.items()
    ]


def _listed(values: Iterable[object]) -> str:
    """Values as they are typed, each once, with commas between them."""
    return ",".join(dict.fromkeys(map(typed, values)))
