"""Full data against pruning, and against the two things a user would do instead.

Every arm of a seed starts from the same weights, sees samples in the same order and augmented the
same way. The arms at equal cost follow the pruned run of that seed: *fewer epochs* is given exactly
the samples it recorded, with the schedule compressed and the last epoch partial; *random pruning*
keeps as many samples of each epoch as it did.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from infobatch.lab.config import TrainConfig
from infobatch.lab.data import ImageData
from infobatch.lab.runs import RunFolder, make_writable
from infobatch.lab.training import Progress, train

FULL = "full"
PRUNED = "pruned"
FEWER = "fewer-epochs"
FEWER_SCALED = "fewer-epochs-lr"
RANDOM = "random"
ARMS = (FULL, PRUNED, FEWER, FEWER_SCALED, RANDOM)


@dataclass(frozen=True)
class Comparison:
    """A comparison's folder: ``<arm>/seed-<s>`` for each run, and ``compare.json``."""

    config: TrainConfig
    num_seeds: int
    margin: float
    path: Path

    @property
    def seeds(self) -> range:
        return range(self.config.seed, self.config.seed + self.num_seeds)

    def folder(self, arm: str, seed: int) -> RunFolder:
        return RunFolder(self.path / arm / f"seed-{seed}")

    def run_config(self, arm: str, seed: int) -> TrainConfig:
        """The options of one run; those of the arms at equal cost need the pruned one to be finished."""
        config = replace(self.config, seed=seed)
        if arm == PRUNED:
            return config
        if arm == FULL:
            return replace(config, policy="none", target=None)
        reference = self.folder(PRUNED, seed)
        kept = [m.num_kept for m in reference.metrics()]
        num_samples = reference.metrics()[0].num_samples
        if arm == RANDOM:
            left_out = tuple(num_samples - k for k in kept)
            return replace(config, policy="random", target=left_out)
        epochs = sum(kept) / num_samples
        scale = config.epochs / epochs if arm == FEWER_SCALED else 1.0
        return replace(config, policy="none", target=None, epochs=epochs, lr=config.lr * scale)

    def runs(self) -> Iterator[tuple[str, int]]:
        """All runs in the order they are trained: a whole seed at a time, the pruned run first."""
        for seed in self.seeds:
            for arm in (PRUNED, FULL, FEWER, FEWER_SCALED, RANDOM):
                yield arm, seed

    def check(self) -> None:
        """Raise ``ValueError`` for what could only fail later."""
        if self.num_seeds < 1:
            raise ValueError(f"--seeds is {self.num_seeds}; it must be at least 1")
        if self.margin < 0:
            raise ValueError(f"--margin is {self.margin}; it must be at least 0")
        if self.config.policy == "none":
            raise ValueError("--policy is none; give compare a policy that prunes, such as infobatch")
        self.config.check()

    def create(self) -> None:
        """Claim the folder for a new comparison."""
        if (self.path / "compare.json").exists():
            raise FileExistsError(
                f"{self.path} already holds a comparison; choose another --out, or give --resume to go "
                "on with it"
            )
        if self.path.exists() and any(self.path.iterdir()):
            raise FileExistsError(f"{self.path} already holds other files; choose another --out")
        make_writable(self.path)
        (self.path / "compare.json").write_text(json.dumps(self.to_json(), indent=2))

    def command(self) -> str:
        """The command that repeats it."""
        options = ["--seeds", str(self.num_seeds), "--margin", f"{self.margin:g}"]
        return shlex.join(["infobatch", "compare", *self.config.to_arguments(), *options])

    def to_json(self) -> dict[str, Any]:
        return {
            "config": self.config.to_json(),
            "num_seeds": self.num_seeds,
            "margin": self.margin,
        }

    @classmethod
    def load(cls, path: Path) -> Comparison:
        if not (path / "compare.json").exists():
            raise FileNotFoundError(f"{path} holds no comparison (no compare.json); check the folder")
        saved = json.loads((path / "compare.json").read_text())
        config = TrainConfig.from_json(saved["config"])
        return cls(config, saved["num_seeds"], saved["margin"], path)


def run_comparison(
    comparison: Comparison,
    data: ImageData,
    watch: Callable[[str, int, Progress | None], None],
    should_stop: Callable[[], bool],
) -> None:
    """Train every run that is not finished; ``watch(arm, seed, progress)``, None when one is done."""
    for arm, seed in comparison.runs():
        folder = comparison.folder(arm, seed)
        if not folder.finished:
            config = comparison.run_config(arm, seed)
            if not folder.exists:
                folder.create(config)
            train(config, data, folder, partial(watch, arm, seed), should_stop)
        watch(arm, seed, None)
