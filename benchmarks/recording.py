"""What recording a run costs: of a step, at the end of an epoch, on disk and in memory.

    python benchmarks/recording.py [--data NAME] [--data-dir DIR] [--epochs N] [--batch-size B]
                                   [--policy none|infobatch] [--device DEVICE] [--json FILE]

Two runs of one small CNN take turns, step by step: one records each sample's loss and margin, the other
records nothing and computes no margins. Printed are ratios: the median of a step of the one over that of
the other, less 1; the seconds that end an epoch of the one beyond those of the other, over the epoch's;
and the bytes of the files for each sample that an epoch trained. On a CPU time is that of the process,
which others on the machine do not change.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from mislabels import Batches, images_of

from infobatch import (
    DynamicPruner,
    InfoBatch,
    NoPruning,
    batch_weights,
    classification_margins,
    read_dynamics,
    weigh_batch_norm,
)
from infobatch.lab.devices import resolve_device
from infobatch.lab.models.small_cnn import small_cnn
from infobatch.lab.runs.environment import describe_environment

POLICIES = {"none": NoPruning(), "infobatch": InfoBatch()}


class Training:
    """A run that is taken step by step."""

    def __init__(self, options: argparse.Namespace, folder: Path | None) -> None:
        images, labels, num_classes = images_of(options.data, options.data_dir, 0)
        torch.manual_seed(0)
        self.device = resolve_device(options.device)
        self.model = weigh_batch_norm(small_cnn(images.shape[1], num_classes)).to(self.device)
        policy = POLICIES[options.policy]
        dataset = Batches(images, labels)
        self.pruner = DynamicPruner(dataset, options.epochs, policy=policy, record_to=folder)
        self.records = folder is not None
        self.loader = self.pruner.loader(options.batch_size, collate_fn=lambda batch: batch)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.05, momentum=0.9)

    def step(self, indices: Any, batch: Any) -> None:
        inputs, targets = (values.to(self.device) for values in batch)
        with batch_weights(self.model, self.pruner.weights(indices)):
            logits = self.model(inputs)
        losses = F.cross_entropy(logits, targets, reduction="none")
        signals = {"margins": classification_margins(logits, targets)} if self.records else {}
        self.pruner.update(losses, indices, **signals).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def clock(device: torch.device) -> float:
    """Seconds of this process; of the wall where a device computes, once it is done."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(device: torch.device, call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """The seconds that a call took, and what it gave."""
    began = clock(device)
    given = call(*arguments)
    return clock(device) - began, given


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The ratios of runs that take turns."""
    runs = [Training(options, None), Training(options, folder)]
    device = runs[0].device
    epochs = [run.pruner.epochs() for run in runs]
    steps: list[list[float]] = [[], []]
    ends: list[list[float]] = [[], []]
    while True:
        begun = [timed(device, next, epoch, None) for epoch in epochs]
        for seconds, (taken, _) in zip(ends, begun, strict=True):
            seconds.append(taken)
        if begun[0][1] is None:
            break
        for number, batches in enumerate(zip(*(run.loader for run in runs), strict=True)):
            turns = (0, 1) if number % 2 else (1, 0)
            for turn in turns:
                steps[turn].append(timed(device, runs[turn].step, *batches[turn])[0])
    plain, recorded = (median(seconds[20:]) for seconds in steps)
    ended = [sum(seconds[1:]) for seconds in ends]  # the first begins, and ends none
    dynamics = read_dynamics(folder)
    num_rows = sum(len(record.index) for record in dynamics)
    num_bytes = sum(path.stat().st_size for path in folder.iterdir())
    columns = [name for name in runs[1].pruner.scores.columns if name.startswith("epoch_")]
    return {
        "share of a step": recorded / plain - 1,
        "share of an epoch, at its end": (ended[1] - ended[0]) / sum(steps[0]),
        "bytes a sample and epoch, on disk": num_bytes / num_rows,
        "bytes a sample, in memory": 4 * len(columns),
        "milliseconds of a step": 1000 * plain,
        "samples": dynamics.num_samples,
        "epochs": dynamics.num_epochs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist5k")
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--policy", choices=POLICIES, default="none")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, Path(folder))
    results["environment"] = describe_environment(resolve_device(options.device))
    print(f"{options.data}, {results['samples']:,} samples, {results['epochs']} epochs")
    for name in ("share of a step", "share of an epoch, at its end"):
        print(f"{name:36} {results[name]:8.2%}")
    for name in ("bytes a sample and epoch, on disk", "bytes a sample, in memory"):
        print(f"{name:36} {results[name]:8.2f}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
