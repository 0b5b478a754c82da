"""Whether the device is kept busy: a training epoch against as many steps on one batch that stays there.

    python benchmarks/data_path.py [--recipe NAME] [--batch-size N] [--train-samples N]
                                   [--data-dir DIR] [--device DEVICE] [--repeats N] [--peak TFLOPS]
                                   [--json FILE]

Each pair is one epoch of full data through the loader, the augmentation and the pruner, and as many
steps of the same model and optimizer on one augmented batch, taking turns; of a resident recipe, both
with its recorded steps. Limit: a median ratio of at most 1.05. On CUDA, a training step must also pass
``torch.cuda.set_sync_debug_mode("error")``. The share of the peak counts the floating-point operations
of PyTorch's FlopCounterMode.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from infobatch import DynamicPruner, NoPruning
from infobatch.lab.commands.loading import load
from infobatch.lab.recipes import find_recipe
from infobatch.lab.runs.environment import describe_environment
from infobatch.lab.tasks.classification import Classification
from infobatch.lab.training.device_steps import DeviceBatch, DeviceSteps
from infobatch.lab.training.optimization import Optimization
from infobatch.lab.training.resident import DeviceEpochs
from infobatch.lab.training.validate import check_config

LIMIT = 1.05


class Bench:
    """One model and optimizer, trained through the data path or on a batch kept on the device."""

    def __init__(self, options: argparse.Namespace) -> None:
        config = find_recipe(options.recipe).config()
        config = replace(config, data_dir=options.data_dir, device=options.device, drop_last=True)
        config = replace(
            config,
            batch_size=options.batch_size or config.batch_size,
            train_samples=options.train_samples or config.train_samples,
        )
        check_config(config)
        self.config = config
        self.task = Classification(config, load(config))
        num_epochs = options.repeats + 2
        options = {"policy": NoPruning(), "seed": config.seed}
        self.pruner = DynamicPruner(self.task.feed.dataset, num_epochs, **options)
        self.loader = self.pruner.loader(
            config.batch_size,
            drop_last=True,
            collate_fn=self.task.feed.collate,
            num_workers=self.task.feed.num_workers,
            persistent_workers=self.task.feed.num_workers > 0,
            pin_memory=self.task.device.type == "cuda",
        )
        self.optimization = Optimization(config, self.task.model, self.pruner)
        self.epochs = self.pruner.epochs()
        self.task.begin(0)
        with torch.no_grad():
            first = np.arange(config.batch_size)
            self.inputs = self.task.inputs(self.task.feed.first(config.batch_size), first)
        self.num_steps = len(self.loader)
        self.steps: DeviceSteps | None = None
        if config.resident:
            torch.backends.cudnn.benchmark = True
            self.steps = DeviceSteps(
                self.task, self.optimization, config.normalizer, self.pruner.signals
            )
            batches = self.loader.batch_sampler
            self.loader = DeviceEpochs(self.pruner, batches, self.task.device, lambda: False)
            self.batch = DeviceBatch(
                torch.arange(config.batch_size, device=self.task.device),
                torch.ones(config.batch_size, device=self.task.device),
            )

    def step(self, indices: Any, inputs: Any) -> None:
        if self.steps is not None:
            self.pruner.record(self.steps(inputs).losses, indices)
            self.optimization.advance()
            return
        losses = self.task.losses(inputs, indices)
        self.optimization.step(self.pruner.update(losses, indices))

    def train_epoch(self) -> None:
        self.task.begin(next(self.epochs))
        for indices, inputs in self.loader:
            self.step(indices, inputs)

    def train_on_one_batch(self) -> None:
        for _ in range(self.num_steps):
            if self.steps is not None:
                self.steps(self.batch)
                continue
            losses = self.task.train_outputs(self.inputs).losses
            self.optimization.step(losses.mean())

    def seconds(self, work: Callable[[], None]) -> float:
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - began

    def wait(self) -> None:
        if self.task.device.type == "cuda":
            torch.cuda.synchronize()

    def check_no_step_waits(self) -> None:
        """Train an epoch in which any wait for the device raises an error."""
        self.task.begin(next(self.epochs))
        batches = iter(self.loader)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for indices, inputs in batches:
                self.step(indices, inputs)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def flops_per_image(self) -> float:
        """Of a forward and a backward pass."""
        with FlopCounterMode(display=False) as counter:
            images = self.inputs[0][:8].to(next(self.task.model.parameters()).dtype)
            self.task.model(images).sum().backward()
        self.task.model.zero_grad()
        return counter.get_total_flops() / 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="mnist5k-small-cnn")
    parser.add_argument("--batch-size", type=int, help="by default the recipe's")
    parser.add_argument("--train-samples", type=int, default=0, help="by default the recipe's")
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5, help="pairs (default 5)")
    parser.add_argument("--peak", type=float, metavar="TFLOPS", help="of the device in this precision")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats is {options.repeats}; it must be at least 1")
    bench = Bench(options)
    flops = bench.flops_per_image()
    bench.train_epoch()  # discarded
    bench.train_on_one_batch()
    pairs = [
        (bench.seconds(bench.train_epoch), bench.seconds(bench.train_on_one_batch))
        for _ in range(options.repeats)
    ]
    ratios = [epoch / kept for epoch, kept in pairs]
    speed = bench.num_steps * bench.config.batch_size / statistics.median(epoch for epoch, _ in pairs)
    ratio = statistics.median(ratios)
    result = {
        "recipe": options.recipe,
        "batch_size": bench.config.batch_size,
        "precision": bench.config.precision,
        **describe_environment(bench.task.device),
        "load": round(os.getloadavg()[0], 2),
        "images_per_second": round(speed),
        "tflops": flops * speed / 1e12,
        "ratio": ratio,
        "ratios": ratios,
    }
    print(", ".join(f"{name} {value}" for name, value in result.items() if name != "ratios"))
    if options.peak:
        result["share_of_peak"] = result["tflops"] / options.peak
        print(f"{result['share_of_peak']:.1%} of the peak of {options.peak:g} TFLOPS")
    if bench.task.device.type == "cuda":
        bench.check_no_step_waits()
        result["no_step_waits"] = True
        print("no step of an epoch waited for the device")
    print(
        f"an epoch takes {ratio:.3f} of as many steps on one batch ({min(ratios):.3f} .. "
        f"{max(ratios):.3f} over {len(ratios)} pairs); "
        f"limit {LIMIT}: {'ok' if ratio <= LIMIT else 'over'}"
    )
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
