"""Full data against pruning, and against the things a user would do instead.

Every arm of a seed starts from the same weights, sees samples in the same order and augmented the
same way. The arms at equal cost follow a pruned run of that seed: *fewer epochs* is given exactly
the samples it recorded, with the schedule compressed and the last epoch partial; *random pruning*
keeps as many samples of each epoch as it did.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from infobatch.lab.config.policy_spec import SELECTIVE_BACKPROP, folder_name, name_of
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.files import make_writable, read_json, write_whole
from infobatch.lab.processes import agree
from infobatch.lab.recipes import RECIPES, find_recipe
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.runs.records import FORWARD_COST
from infobatch.lab.training.engine import Progress
from infobatch.lab.training.loop import check, train
from infobatch.lab.training.pauses import Interrupted
from infobatch.lab.training.scoring_costs import (
    at_equal_cost,
    prior_pass_epochs,
    pruned_throughout,
    without_unread_scores,
)
from infobatch.policies import BELOW_MEAN, POLICIES, has_prune_ratio
from infobatch.schedule import Schedule

FULL = "full"
PRUNED = "pruned"
FEWER = "fewer-epochs"
FEWER_SCALED = "fewer-epochs-lr"
RANDOM = "random"
CONTROLS = (FEWER, FEWER_SCALED, RANDOM)

SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Variant:
    """One way of pruning that is compared; ``target``: the share of the run's cost that it saves.

    A policy that only ever trains leaves out that share of the run's samples.
    """

    policy: str
    prune_ratio: float = 0.5
    target: float | None = None

    @property
    def is_cost_alone(self) -> bool:
        """Whether it names no policy: the controls' at a cost that is known beforehand."""
        return not self.policy

    @property
    def name(self) -> str:
        if self.is_cost_alone:
            return f"save-{100 * (self.target or 0):g}"
        parts = [folder_name(self.policy)]
        name = name_of(self.policy)
        if (self.target is None or name in BELOW_MEAN) and has_prune_ratio(name):
            parts.append(f"{self.prune_ratio:g}")
        if self.target is not None:
            parts.append(f"save-{100 * self.target:g}")
        return "-".join(parts)

    def config(self, common: TrainConfig) -> TrainConfig:
        """The options of its runs, so that with all forward passes they save the target."""
        if self.policy == SELECTIVE_BACKPROP:
            assert self.target is not None
            share = _backward_share(self.target, common)
            return replace(common, policy="none", target=None, backward_share=share, scores="")
        target = common.target if self.target is None else self.target
        made = replace(common, policy=self.policy, prune_ratio=self.prune_ratio, target=target)
        made = without_unread_scores(pruned_throughout(made))
        if self.target is None:
            return made
        if POLICIES[name_of(self.policy)].refreshes:  # what is left out is looked at
            target = self.target + prior_pass_epochs(made) / made.epochs
            return replace(made, target=round(target / (1 - FORWARD_COST), 9))
        return at_equal_cost(made)

    def costs_as(self, other: Variant | None) -> bool:
        """Whether both are known to cost the same."""
        if other is None:
            return False
        return self == other or (self.target is not None and self.target == other.target)


def _backward_share(saved: float, config: TrainConfig) -> float:
    """The share of a batch to train on, in epochs that can be pruned, to save ``saved``."""
    schedule = Schedule(1, config.epochs, config.delta, config.warmup_epochs)
    pruned = sum(map(schedule.share, schedule.prunable)) / schedule.run_length
    share = 1 - FORWARD_COST - saved / pruned
    if share * config.batch_size < 1:
        raise ValueError(
            f"it looks at all samples, which costs {FORWARD_COST:.0%} of training on them, and to save "
            f"{saved:.0%} could train on only {max(0.0, share):.1%} of a batch; lower the saving"
        )
    return share


@dataclass(frozen=True)
class Arm:
    """Runs that differ in nothing but their seed: full data, a variant, or a control at its cost."""

    kind: str
    variant: Variant | None = None

    @property
    def name(self) -> str:
        """Its folder in the comparison's."""
        return self.kind if self.variant is None else f"{self.variant.name}/{self.kind}"


@dataclass(frozen=True)
class Comparison:
    """A comparison's folder: ``<arm>/seed-<s>`` for each run, and ``compare.json``.

    ``config``: what all its runs have in common. ``variants``: what is compared with full data.
    ``controls``: whether each is also compared with its rivals at equal cost. ``margin``: what may be
    lost for the verdict "lossless"; None for the task's own.
    """

    config: TrainConfig
    variants: tuple[Variant, ...]
    num_seeds: int
    margin: float | None
    path: Path
    controls: bool = True

    @property
    def seeds(self) -> range:
        return range(self.config.seed, self.config.seed + self.num_seeds)

    @property
    def is_contest(self) -> bool:
        """Whether its variants were brought to costs that are known beforehand."""
        return any(variant.target is not None for variant in self.variants)

    @property
    def arms(self) -> list[Arm]:
        arms = [Arm(FULL)]
        for variant in self.variants:
            arms.append(Arm(PRUNED, variant))
            if self.controls:
                arms += self._controls_of(variant)
        return arms

    def _controls_of(self, variant: Variant) -> list[Arm]:
        """Its rivals at equal cost; variants that are known to cost the same have them in common."""
        if variant.target is None:
            return [Arm(kind, variant) for kind in CONTROLS]
        alike = [other for other in self.variants if variant.costs_as(other)]
        if variant != alike[0]:
            return []
        has_random = any(other.policy == "random" for other in alike)
        cost = Variant("", target=variant.target)
        return [Arm(kind, cost) for kind in CONTROLS if not (kind == RANDOM and has_random)]

    @property
    def runs(self) -> list[tuple[Arm, int]]:
        """All runs in the order they are trained: a whole seed at a time, the pruned runs first."""
        first = sorted(self.arms, key=lambda arm: [PRUNED, FULL, *CONTROLS].index(arm.kind))
        return [(arm, seed) for seed in self.seeds for arm in first]

    def folder(self, arm: Arm, seed: int) -> RunFolder:
        return RunFolder(self.path / arm.name / f"seed-{seed}")

    def is_ready(self, arm: Arm, seed: int) -> bool:
        """Whether its options are known: a control may have to wait for what its pruned run costs."""
        if arm.kind not in CONTROLS or (arm.variant and arm.variant.is_cost_alone):
            return True
        return self.folder(Arm(PRUNED, arm.variant), seed).finished

    def pruned_config(self, variant: Variant) -> TrainConfig:
        return variant.config(self.config)

    def check_data(self, data: Data) -> None:
        """Raise ``ValueError`` if the options of any run do not fit the data or the processes."""
        for variant in self.variants:
            check(self.pruned_config(variant), data)

    def run_config(self, arm: Arm, seed: int) -> TrainConfig:
        """The options of one run that is ready."""
        config = replace(self.config, seed=seed, scores="")
        if arm.variant is None:
            return replace(config, policy="none", target=None)
        if arm.kind == PRUNED:
            return replace(self.pruned_config(arm.variant), seed=seed)
        left_out, epochs = self._at_cost(arm.variant, seed)
        if arm.kind == RANDOM:
            return replace(config, policy="random", target=left_out)
        scale = config.epochs / epochs if arm.kind == FEWER_SCALED else 1.0
        return replace(config, policy="none", target=None, epochs=epochs, lr=config.lr * scale)

    def _at_cost(self, variant: Variant, seed: int) -> tuple[float | tuple[int, ...], float]:
        """What random pruning leaves out to cost the same, and how many epochs of full data do."""
        if variant.is_cost_alone:
            assert variant.target is not None
            return variant.target, round((1 - variant.target) * self.config.epochs, 9)
        reference = self.folder(Arm(PRUNED, variant), seed)
        costs = [round(m.cost) for m in reference.metrics()]
        num_samples, cost = reference.metrics()[0].num_samples, reference.summary().cost
        kept = kept_at_cost(costs, num_samples, cost)
        return tuple(num_samples - k for k in kept), cost / num_samples

    def check(self) -> None:
        """Raise ``ValueError`` for what could only fail later."""
        if self.num_seeds < 1:
            raise ValueError(f"--seeds is {self.num_seeds}; it must be at least 1")
        if self.margin is not None and self.margin < 0:
            raise ValueError(f"--margin is {self.margin}; it must be at least 0")
        if not self.variants:
            raise ValueError(
                "there is nothing to compare with full data: none of the policies named can take part"
            )
        for variant in self.variants:
            if variant.policy == "none":
                raise ValueError(
                    "--policy is none; give compare a policy that prunes, such as infobatch"
                )
            self.pruned_config(variant).check()

    def create(self) -> None:
        """Claim the folder for a new comparison."""
        if (self.path / "compare.json").exists():
            raise FileExistsError(
                f"{self.path} already holds a comparison; choose another --out, or give --resume to go "
                "on with it"
            )
        if self.path.exists() and any(self.path.iterdir()):
            raise FileExistsError(f"{self.path} already holds other files; choose another --out")
        self.save()

    def save(self) -> None:
        make_writable(self.path)
        text = json.dumps(self.to_json(), indent=2)
        write_whole(self.path / "compare.json", lambda path: path.write_text(text))

    def command(self) -> str:
        """The command that repeats it."""
        options = ["--seeds", str(self.num_seeds)]
        if self.margin is not None:
            options += ["--margin", f"{self.margin:g}"]
        config = replace(self.config, data_dir=None, device="auto")
        policies = ",".join(dict.fromkeys(variant.policy for variant in self.variants))
        targets = dict.fromkeys(v.target for v in self.variants if v.target is not None)
        if targets:
            name = "contest"
            options += ["--policies", policies, "--save", ",".join(f"{100 * t:g}" for t in targets)]
        elif len(self.variants) == 1 and self.controls:
            name = "compare"
            (variant,) = self.variants
            config = replace(config, policy=variant.policy, prune_ratio=variant.prune_ratio)
        else:
            name = "sweep"
            ratios = dict.fromkeys(
                v.prune_ratio for v in self.variants if has_prune_ratio(name_of(v.policy))
            )
            options += ["--policies", policies]
            options += ["--prune-ratio", ",".join(f"{r:g}" for r in ratios)] if ratios else []
        options += [] if self.controls else ["--no-controls"]
        recipe = [config.recipe] if config.recipe else []
        base = find_recipe(config.recipe).config() if config.recipe in RECIPES else None
        arguments = [*recipe, *config.to_arguments(base), *options]
        return shlex.join(["infobatch", name, *arguments])

    def to_json(self) -> dict[str, Any]:
        return {
            "config": self.config.to_json(),
            "variants": [[v.policy, v.prune_ratio, v.target] for v in self.variants],
            "num_seeds": self.num_seeds,
            "margin": self.margin,
            "controls": self.controls,
        }

    @classmethod
    def load(cls, path: Path) -> Comparison:
        if not (path / "compare.json").exists():
            raise FileNotFoundError(f"{path} holds no comparison (no compare.json); check the folder")
        saved = read_json(path / "compare.json")
        config = TrainConfig.from_json(saved["config"])
        variants = tuple(Variant(*variant) for variant in saved["variants"])
        return cls(config, variants, saved["num_seeds"], saved["margin"], path, saved["controls"])


def kept_at_cost(kept: Sequence[int], num_samples: int, cost: float) -> list[int]:
    """What random pruning keeps of each epoch at the cost of a run that ``kept`` so many samples.

    As many, and of the epochs that were pruned more, all alike, where the run computed more than that.
    """
    num_pruned = sum(k < num_samples for k in kept)
    more = round((cost - sum(kept)) / max(1, num_pruned))
    return [min(num_samples, k + more) for k in kept]


Watch = Callable[[Arm, int, Progress | None], None]


def run_comparison(
    comparison: Comparison, data: Data, watch: Watch, should_stop: Callable[[], bool]
) -> None:
    """Train every run that is not finished; ``watch(arm, seed, progress)``, None when one is done.

    Others may do the same in the same folder at the same time: a run belongs to whoever locked it, and
    a lock ends with its process.
    """
    waiting = [(arm, seed, comparison.folder(arm, seed)) for arm, seed in comparison.runs]
    while waiting:
        place = agree(partial(_claim, comparison, waiting))
        if place is None:  # others are at work on all that can be done now
            if agree(should_stop):
                raise Interrupted(str(comparison.path))
            time.sleep(SECONDS_BETWEEN_LOOKS)
            continue
        arm, seed, folder = waiting.pop(place)
        config = agree(partial(_prepare, comparison, arm, seed, folder))
        if config is not None:
            train(config, data, folder, partial(watch, arm, seed), should_stop)
        agree(folder.release)
        watch(arm, seed, None)


def _claim(comparison: Comparison, waiting: Sequence[tuple[Arm, int, RunFolder]]) -> int | None:
    """The place of the first run that is finished, or ours to train."""
    for place, (arm, seed, folder) in enumerate(waiting):
        if folder.finished or (comparison.is_ready(arm, seed) and folder.claim()):
            return place
    return None


def _prepare(comparison: Comparison, arm: Arm, seed: int, folder: RunFolder) -> TrainConfig | None:
    """The options to train it with, once its folder is made or seen to be of this run; None if done."""
    if folder.finished and not comparison.is_ready(arm, seed):
        return None
    config = comparison.run_config(arm, seed)
    if folder.exists:
        folder.require(config)
    else:
        folder.create(config)
    return None if folder.finished else config
