"""A comparison: full data against pruning, and against what a user would do instead.

All arms of a seed start from the same weights and see samples in the same order, augmented in the same
way. The controls are given the cost of a pruned run of that seed: *fewer epochs* trains on all data
until the cost is spent, with the schedule compressed and the last epoch partial; *random pruning* keeps
as many samples of each epoch as that run did, and so does *undersampling*, which goes by class. With
*the same steps* as full data, batches are smaller: those of fewer epochs by the factor by which the run
is shorter, those of random pruning and undersampling in each epoch.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infobatch.batching import Batching
from infobatch.lab.comparison.variants import (
    BESIDE_FEWER_STEPS,
    BESIDE_SMALLER_BATCHES,
    CONTROLS,
    FEWER_SCALED,
    FULL,
    PRUNED,
    SAME_STEPS,
    SHRUNK,
    UNDERSAMPLED,
    Arm,
    Variant,
    kept_at_cost,
)
from infobatch.lab.config.pruned_epochs import delta_of, prunable_epochs
from infobatch.lab.config.shrinking import shrinks_batches, smaller_batch
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.files import make_writable, naming_damaged, read_json, write_whole
from infobatch.lab.processes import replicas
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.validate import check_config, check_run


@dataclass(frozen=True)
class Comparison:
    """A comparison and its folder: ``<arm>/seed-<s>`` for each run, and ``compare.json``.

    Args:
        config: The options that all runs share.
        variants: The ways of pruning that are compared with full data.
        num_seeds: Runs of each arm, at least 1, with seeds from ``config.seed`` on.
        margin: Largest loss, in the task's metric, for the verdict "lossless"; None takes the metric's
            own.
        path: The folder.
        controls: Whether each variant is also compared with the controls at its cost.
        also: Those of ``ON_REQUEST`` that all variants are compared with, beside the controls that they
            have in any case.
    """

    config: TrainConfig
    variants: tuple[Variant, ...]
    num_seeds: int
    margin: float | None
    path: Path
    controls: bool = True
    also: tuple[str, ...] = ()

    @property
    def seeds(self) -> range:
        """The seeds of each arm's runs."""
        return range(self.config.seed, self.config.seed + self.num_seeds)

    @property
    def is_contest(self) -> bool:
        """Whether its variants were given costs that are known before any run."""
        return any(variant.target is not None for variant in self.variants)

    @property
    def arms(self) -> list[Arm]:
        """Its arms in the order in which they are reported."""
        arms = [Arm(FULL)]
        for variant in self.variants:
            arms.append(Arm(PRUNED, variant))
            if self.controls:
                arms += self._controls_of(variant)
        return arms

    def _controls_of(self, variant: Variant) -> list[Arm]:
        """The controls at the variant's cost, which variants that are known to cost the same share."""
        if variant.target is None:
            kinds = self._kinds_beside(variant)
            return [Arm(kind, variant) for kind in CONTROLS if kind in kinds]
        alike = self._alike(variant)
        if variant != alike[0]:
            return []
        kinds = self._kinds_at_cost(variant)
        for other in alike:  # a policy may be one of the controls
            same = {kind for kind, control in CONTROLS.items() if control.policy == other.policy}
            kinds -= self._kinds_beside(other) & same
        budget = Variant("", target=variant.target)
        return [Arm(kind, budget) for kind in CONTROLS if kind in kinds]

    def _alike(self, variant: Variant) -> list[Variant]:
        """The variants that are known to cost what this one does, which may be a budget alone."""
        return [other for other in self.variants if variant.has_cost_of(other)]

    def _kinds_at_cost(self, variant: Variant) -> set[str]:
        """The kinds of controls that a variant and those of its cost are compared with."""
        return {kind for other in self._alike(variant) for kind in self._kinds_beside(other)}

    def _kinds_beside(self, variant: Variant) -> set[str]:
        """The kinds of controls that a variant is compared with."""
        if self._shrinks(variant):
            return {*BESIDE_SMALLER_BATCHES, *(SHRUNK.get(kind, kind) for kind in self.also)}
        return {*BESIDE_FEWER_STEPS, *self.also}

    def _shrinks(self, variant: Variant) -> bool:
        """Whether a variant's batches shrink, and not its steps."""
        return shrinks_batches(replace(self.config, policy=variant.policy))

    @property
    def runs(self) -> list[tuple[Arm, int]]:
        """All runs in the order in which they are trained: seed by seed, the pruned runs first."""
        first = sorted(self.arms, key=lambda arm: [PRUNED, FULL, *CONTROLS].index(arm.kind))
        return [(arm, seed) for seed in self.seeds for arm in first]

    def folder(self, arm: Arm, seed: int) -> RunFolder:
        """The folder of one run.

        Args:
            arm: The run's arm.
            seed: The run's seed.

        Returns:
            The folder, which may not exist yet.
        """
        return RunFolder(self.path / arm.name / f"seed-{seed}")

    def is_ready(self, arm: Arm, seed: int) -> bool:
        """Whether a run's options are known: a control may have to wait for the cost of its pruned run.

        Args:
            arm: The run's arm.
            seed: The run's seed.

        Returns:
            True if :meth:`run_config` can be called.
        """
        if arm.kind not in CONTROLS or (arm.variant and arm.variant.is_budget):
            return True
        return self.folder(Arm(PRUNED, arm.variant), seed).finished

    def pruned_config(self, variant: Variant) -> TrainConfig:
        """The options of a variant's pruned runs, but for their seed.

        Args:
            variant: One of the comparison's variants.

        Returns:
            The options.
        """
        return variant.config(self.config)

    def check_data(self, data: Data) -> None:
        """Refuse data or a number of processes that the options of a run do not fit.

        Args:
            data: The data of all runs.

        Raises:
            ValueError: If a run could not be trained.
        """
        for variant in self.variants:
            check_run(self.pruned_config(variant), data)
        if UNDERSAMPLED in self.also:
            of_each_epoch = (0,) * math.ceil(round(self.config.epochs, 9))  # known once ours are trained
            config = replace(self.config, policy="undersampling", target=of_each_epoch, prior_scores="")
            check_run(config, data)

    def run_config(self, arm: Arm, seed: int, num_samples: int = 0) -> TrainConfig:
        """The options of one run.

        Args:
            arm: The run's arm.
            seed: The run's seed.
            num_samples: N, the number of training samples; without it, controls of the same steps have
                them only about.

        Returns:
            The options.

        Raises:
            FileNotFoundError: If the run is not ready: see :meth:`is_ready`.
        """
        config = replace(self.config, seed=seed, prior_scores="", shrink="auto", batch_norm="plain")
        if arm.variant is None:
            return replace(config, policy="none", target=None)
        if arm.kind == PRUNED:
            return replace(self.pruned_config(arm.variant), seed=seed)
        left_out, epochs = self._spend(arm.variant, seed)
        control = CONTROLS[arm.kind]
        if not control.is_shorter:
            return replace(config, policy=control.policy, target=left_out, shrink=control.shrink)
        if arm.kind == SAME_STEPS:
            num_replicas = replicas().num_replicas
            size, micro_batch = smaller_batch(config, epochs, num_replicas, num_samples)
            tuning = replace(config.tuning, micro_batch=micro_batch)
            config = replace(config, batch_size=size, tuning=tuning)
        scale = config.epochs / epochs if arm.kind == FEWER_SCALED else 1.0
        return replace(config, policy="none", target=None, epochs=epochs, lr=config.lr * scale)

    def _spend(self, variant: Variant, seed: int) -> tuple[float | tuple[int, ...], float]:
        """What random pruning leaves out, and how many epochs of full data there are, at equal cost."""
        if variant.is_budget:
            assert variant.target is not None
            return variant.target, round((1 - variant.target) * self.config.epochs, 9)
        reference = self.folder(Arm(PRUNED, variant), seed)
        costs = [round(m.cost) for m in reference.metrics()]
        num_samples, cost = reference.metrics()[0].num_samples, reference.summary().cost
        kept = kept_at_cost(costs, num_samples, cost, self.config.epochs % 1 or 1.0)
        size = min(self.config.batch_size, num_samples)
        in_epoch = Batching(size, self.config.drop_last).num_trained(num_samples)
        return tuple(num_samples - k for k in kept), cost / in_epoch

    def check(self) -> None:
        """Refuse options that could only fail later.

        Raises:
            ValueError: If there is nothing to compare, or an option does not hold.
        """
        if self.num_seeds < 1:
            raise ValueError(f"--seeds is {self.num_seeds}; it must be at least 1")
        if self.margin is not None and not 0 < self.margin < math.inf:
            raise ValueError(
                f"--margin is {self.margin}; it must be above 0: no interval tells that nothing is lost"
            )
        if not self.variants:
            raise ValueError(
                "there is nothing to compare with full data: none of the policies named can take part"
            )
        for variant in self.variants:
            if variant.policy == "none":
                raise ValueError("--policy is none; leave it out, or give compare one that prunes")
            config = self.pruned_config(variant)
            check_config(config)
            if not prunable_epochs(config).num_prunable:
                delta = delta_of(config)
                annealing = f" and annealing what follows {delta:g} of the run" if delta < 1 else ""
                raise ValueError(
                    f"--epochs is {config.epochs:g}, of which none can be pruned, for warm-up takes "
                    f"{config.warmup_epochs}{annealing}; give more epochs"
                )

    def create(self) -> None:
        """Make the folder of a new comparison.

        Raises:
            FileExistsError: If the folder already holds anything.
        """
        if (self.path / "compare.json").exists():
            raise FileExistsError(
                f"{self.path} already holds a comparison; choose another --out, or give --resume to go "
                "on with it"
            )
        if self.path.exists() and any(self.path.iterdir()):
            raise FileExistsError(f"{self.path} already holds other files; choose another --out")
        self.save()

    def save(self) -> None:
        """Write ``compare.json``, in place of an earlier one."""
        make_writable(self.path)
        text = json.dumps(self.to_json(), indent=2)
        write_whole(self.path / "compare.json", lambda path: path.write_text(text))

    def to_json(self) -> dict[str, Any]:
        """The comparison as values that JSON has; :meth:`load` reads them."""
        return {
            "config": self.config.to_json(),
            "variants": [[v.policy, v.prune_ratio, v.target] for v in self.variants],
            "num_seeds": self.num_seeds,
            "margin": self.margin,
            "controls": self.controls,
            "also": list(self.also),
        }

    @classmethod
    def load(cls, path: Path) -> Comparison:
        """Read a comparison from its folder.

        Args:
            path: The folder.

        Returns:
            The comparison.

        Raises:
            FileNotFoundError: If the folder holds no comparison.
            ValueError: If ``compare.json`` is damaged or holds options that do not exist.
        """
        file = path / "compare.json"
        if not file.exists():
            raise FileNotFoundError(f"{path} holds no comparison (no compare.json); check the folder")
        saved = read_json(file)
        with naming_damaged(file, "restore it or remove its folder"):
            config = TrainConfig.from_json(saved["config"])
            variants = tuple(Variant(*variant) for variant in saved["variants"])
            seeds, margin, controls = saved["num_seeds"], saved["margin"], saved["controls"]
            also = (SAME_STEPS,) if saved.get("same_steps") else tuple(saved.get("also", ()))
            return cls(config, variants, seeds, margin, path, controls, also)
