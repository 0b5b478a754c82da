"""The command line that repeats a comparison."""

from __future__ import annotations

import shlex
from dataclasses import replace

from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.variants import ON_REQUEST
from infobatch.lab.config.noise_budget import without_budget
from infobatch.lab.config.policy_spec import name_of
from infobatch.lab.config.train import defaults_of, of_function, of_table
from infobatch.lab.data.table_files import own_file
from infobatch.lab.recipes import RECIPES, find_recipe
from infobatch.policies import has_prune_ratio


def command_of(comparison: Comparison) -> str:
    """The command line that repeats a comparison: compare, sweep or contest with its options.

    Args:
        comparison: The comparison.

    Returns:
        One line for a shell, without the device.
    """
    variants, config = comparison.variants, replace(comparison.config, device="auto")
    options = ["--seeds", str(comparison.num_seeds)]
    if comparison.margin is not None:
        options += ["--margin", f"{comparison.margin:g}"]
    policies = ",".join(dict.fromkeys(variant.policy for variant in variants))
    if comparison.is_contest:
        name = "contest"
        targets = dict.fromkeys(v.target for v in variants if v.target is not None)
        typed = [without_budget(v.policy) if v.target is None else (v.policy, None) for v in variants]
        policies = ",".join(dict.fromkeys(policy for policy, _ in typed))
        noises = ",".join(dict.fromkeys(f"{noise:g}" for _, noise in typed if noise is not None))
        options += ["--policies", policies, "--save", ",".join(f"{100 * t:g}" for t in targets)]
        options += ["--noise", noises] if noises else []
    elif len(variants) == 1 and comparison.controls:
        name = "compare"
        config = replace(config, policy=variants[0].policy, prune_ratio=variants[0].prune_ratio)
    else:
        name = "sweep"
        ratios = dict.fromkeys(v.prune_ratio for v in variants if has_prune_ratio(name_of(v.policy)))
        options += ["--policies", policies]
        options += ["--prune-ratio", ",".join(f"{r:g}" for r in ratios)] if ratios else []
    options += [] if comparison.controls else ["--no-controls"]
    options += [typed for kind, typed in ON_REQUEST.items() if kind in comparison.also]
    recipe = [config.recipe] if config.recipe else []
    base = find_recipe(config.recipe).config() if config.recipe in RECIPES else None
    if config.task == "own":
        recipe, base = [config.own.train], of_function(config.own.train)
    if (file := own_file(config.data, config.data_dir)) is not None:
        recipe = [f"{file}:{config.tabular.target}"]
        base = of_table(file, config.tabular.target, "")
    base = base or defaults_of(config.task)
    if name != "compare":  # its policies are typed as such
        config = replace(config, policy=base.policy)
    return shlex.join(["infobatch", name, *recipe, *config.to_arguments(base), *options])
