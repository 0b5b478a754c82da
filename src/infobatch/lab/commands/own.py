"""A comparison of a training function, from Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from infobatch.lab.commands.console import ComparisonWatch, console, live, number_of_runs
from infobatch.lab.commands.loading import load
from infobatch.lab.commands.saving import share_of
from infobatch.lab.commands.show import write_and_print
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.run import run_comparison
from infobatch.lab.comparison.variants import ON_REQUEST, Variant
from infobatch.lab.config.noise_budget import with_budget
from infobatch.lab.config.train import TrainConfig, flag, of_function
from infobatch.lab.functions import GIVEN, Function, source_of_given
from infobatch.lab.processes import agree
from infobatch.lab.report import check_drawable
from infobatch.lab.report.reading import read_comparison
from infobatch.lab.report.results import Results
from infobatch.lab.runs.same_options import require_same
from infobatch.policies import DEFAULT_FOR_TARGET

Controls = tuple[Literal["same-steps", "undersampled"], ...]


def compare(
    train: Function,
    *,
    epochs: float,
    batch_size: int,
    lr: float,
    noise: float | None = None,
    save: float | None = None,
    policy: str = "",
    seeds: int = 5,
    seed: int = 0,
    metric: str = "accuracy %",
    lower_is_better: bool = False,
    margin: float | None = None,
    also: Controls = (),
    out: str | Path = "runs/compare",
) -> Results:
    """Compare pruning with full data, and with what else costs as much, by a training function.

    The function is called once for each run: full data, pruning, fewer epochs at two learning rates,
    random pruning and, where batches shrink, fewer epochs in as many steps. Finished runs in the folder
    are kept, so that the same call goes on where the last one stopped, or adds seeds. At the end the
    table and the verdict are printed, and a report is written.

    Args:
        train: Takes a run, whose ``seed``, ``epochs``, ``batch_size``, ``lr`` and ``pruner(train_set)``
            it uses, and returns the metric after the last epoch; a number that is not finite counts as a
            run that diverged.
        epochs: The length of a run on full data.
        batch_size: Samples in a batch on full data.
        lr: The learning rate on full data, or the highest of a schedule.
        noise: A budget of gradient noise, above 1: see :class:`infobatch.NoiseBudget`. The default
            where nothing else says what is left out is 1.1.
        save: The percentage of the samples to leave out, in [1, 100), in place of a budget.
        policy: What leaves them out, as the command line names it; by default what goes with the above.
        seeds: Runs of each kind, at least 1.
        seed: The first seed.
        metric: The metric's name, which ends in % for percentages.
        lower_is_better: Whether less of it is better.
        margin: What may be lost of it for the verdict "lossless"; by default 0.5 for percentages, else
            none.
        also: Further controls, ``"same-steps"`` and ``"undersampled"``, beside those of earlier calls;
            the second needs ``run.pruner(train_set, labels=...)``.
        out: The comparison's folder.

    Returns:
        What the report shows: ``results.rows()`` are the lines of its table.

    Raises:
        ValueError: For options out of their ranges, what is no function, or a folder that holds another
            comparison.
    """
    path = Path(out)
    config = _config_of(train, noise, save, policy)
    own = replace(config.own, metric=metric, lower_is_better=lower_is_better)
    config = replace(config, own=own, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed)
    variant = Variant(config.policy, config.prune_ratio)
    comparison = Comparison(config, (variant,), seeds, margin, path, also=tuple(also))
    if unknown := set(also) - set(ON_REQUEST):
        raise ValueError(f"also has {unknown.pop()!r}; choose from {', '.join(ON_REQUEST)}")
    check_drawable()
    comparison.check()
    if (path / "compare.json").exists():
        there = Comparison.load(path)
        require_same(config, there.config, path)
        kinds = tuple(dict.fromkeys([*there.also, *also]))
        comparison = replace(comparison, num_seeds=max(seeds, there.num_seeds), also=kinds)
        agree(comparison.save)
    else:
        agree(comparison.create)
    console.print(number_of_runs(comparison))
    with live("compare", path, again="call compare again") as (progress, should_stop):
        watch = ComparisonWatch([comparison], progress)
        run_comparison(comparison, load(config), watch.of(comparison), should_stop)
    agree(lambda: write_and_print([path]))
    return read_comparison(path)


def _config_of(train: Function, noise: float | None, save: float | None, policy: str) -> TrainConfig:
    """The options of the function's pruned runs, but for its length, batch and learning rate."""
    if noise is not None and save is not None:
        raise ValueError(f"noise is {noise:g} and save {save:g}, and each says how much is left out")
    if not hasattr(train, "__qualname__"):
        raise ValueError(
            f"train is {train!r}, which has no name by which its runs are known; give a function, such "
            "as `def train(run): return made(run)`"
        )
    name = f"{train.__module__}:{train.__qualname__}"
    GIVEN[name] = train
    config = of_function(name)
    if mark := source_of_given(train):
        config = replace(config, source=f"{flag('own.train')} {mark}")
    if save is not None:
        return replace(config, policy=policy or DEFAULT_FOR_TARGET, target=share_of(save, "save", save))
    policy = policy or config.policy
    return replace(config, policy=policy if noise is None else with_budget(policy, noise))
