"""Full data against pruning, and against the two things a user would do instead.

Every arm of a seed starts from the same weights, sees samples in the same order and augmented the
same way. The arms at equal cost follow InfoBatch's run of that seed: *fewer epochs* is given exactly
the samples it recorded, with the schedule compressed and the last epoch partial; *random pruning*
keeps as many samples of each epoch as it did.
"""

from __future__ import annotations

import json
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
INFOBATCH = "infobatch"
FEWER = "fewer-epochs"
FEWER_SCALED = "fewer-epochs-scaled-lr"
RANDOM = "random"
ARMS = (FULL, INFOBATCH, FEWER, FEWER_SCALED, RANDOM)


@dataclass(frozen=True)
class Comparison:
    """A comparison's folder: ``<arm>/seed-<s>`` for each run, and ``compare.json``."""

    config: TrainConfig
    seeds: int
    margin: float
    path: Path

    def folder(self, arm: str, seed: int) -> RunFolder:
        return RunFolder(self.path / arm / f"seed-{seed}")

    def run_config(self, arm: str, seed: int) -> TrainConfig:
        """The options of one run; those of the arms at equal cost need InfoBatch's to be finished."""
        config = replace(self.config, seed=seed)
        if arm == INFOBATCH:
            return config
        if arm == FULL:
            return replace(config, policy="none", target=None)
        reference = self.folder(INFOBATCH, seed)
        kept = [m.num_kept for m in reference.metrics()]
        num_samples = reference.metrics()[0].num_samples
        if arm == RANDOM:
            left_out = tuple(num_samples - k for k in kept)
            return replace(config, policy="random", target=left_out)
        epochs = sum(kept) / num_samples
        scale = config.epochs / epochs if arm == FEWER_SCALED else 1.0
        return replace(config, policy="none", target=None, epochs=epochs, lr=config.lr * scale)

    def runs(self) -> Iterator[tuple[str, int]]:
        """All runs in the order they are trained: a whole seed at a time, InfoBatch first."""
        for seed in range(self.seeds):
            for arm in (INFOBATCH, FULL, FEWER, FEWER_SCALED, RANDOM):
                yield arm, seed

    def save(self) -> None:
        self.path.joinpath("compare.json").write_text(json.dumps(self.to_json(), indent=2))

    def to_json(self) -> dict[str, Any]:
        return {"config": self.config.to_json(), "seeds": self.seeds, "margin": self.margin}

    @classmethod
    def load(cls, path: Path) -> Comparison:
        saved = json.loads((path / "compare.json").read_text())
        config = TrainConfig.from_json(saved["config"])
        return cls(config, saved["seeds"], saved["margin"], path)


def open_comparison(comparison: Comparison, resume: bool) -> Comparison:
    """Claim the folder for a new comparison, or go on with the one that it holds."""
    path = comparison.path
    if (path / "compare.json").exists():
        if not resume:
            raise FileExistsError(
                f"{path} already holds a comparison; choose another --out, or give --resume to go on "
                "with it"
            )
        return Comparison.load(path)
    if resume:
        raise FileNotFoundError(f"{path} holds no comparison to resume; leave --resume out")
    if path.exists() and any(path.iterdir()):
        raise FileExistsError(f"{path} already holds other files; choose another --out")
    make_writable(path)
    comparison.save()
    return comparison


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
