"""Trains a run into its folder, by the engine of its task."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data
from infobatch.lab.devices import computes_in_bf16, resolve_device, resolve_precision
from infobatch.lab.processes import agree
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.runs.records import Summary
from infobatch.lab.training.engine import Engine, Watch
from infobatch.lab.training.loop import Loop
from infobatch.lab.training.own import OwnTraining
from infobatch.lab.training.pauses import Pauses
from infobatch.lab.training.resident import ResidentLoop
from infobatch.lab.training.static_scores import static_scores


class OutOfMemory(Exception):
    """The device has too little memory for these options."""


def train(
    config: TrainConfig,
    data: Data,
    folder: RunFolder,
    watch: Watch = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Train one run into its folder, from its checkpoint if it has one.

    Args:
        config: The run's options.
        data: What it trains and is tested on.
        folder: Where it leaves its files.
        watch: Called after each epoch; by default nobody watches.
        should_stop: Whether the user wants to stop, asked after every step; by default never.

    Returns:
        The summary of the finished run; of a run that was finished before, the one in its folder.

    Raises:
        Interrupted: If the user asked to stop, once the checkpoint is written.
        OutOfMemory: If the device has too little memory.
    """
    finished = agree(lambda: folder.summary() if folder.finished else None)
    if finished is not None:
        return finished
    import_module("torch._dynamo")  # or the first step would, on the clock of a comparison's first run
    pauses = Pauses(folder.path, should_stop)
    try:
        scores = static_scores(config, data, folder, pauses)
        engine = _load_engine(config)
        return engine(config, data, folder, scores, pauses).run(watch)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        device = resolve_device(config.device)
        in_half = resolve_precision(config.precision, device) == "fp32" and computes_in_bf16(device)
        raise OutOfMemory(
            f"out of memory with {config.model} at batch size {config.batch_size} on {device}; lower "
            "--batch-size (and --lr with it)"
            + (", or give --precision bf16" if in_half else "")
            + f". What was trained up to the last checkpoint is kept in {folder.path}"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    is_cpu = "can't allocate memory" in str(error)  # PyTorch has no type of its own for the CPU's
    return is_cpu or isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))


def _load_engine(config: TrainConfig) -> type[Engine] | type[OwnTraining]:
    """The class that trains a run; the Trainer's is imported when it is needed, with its packages."""
    if config.task == "tuning":
        from infobatch.lab.training.hf_trainer import TrainerEngine

        return TrainerEngine
    if config.task == "own":
        return OwnTraining
    return ResidentLoop if config.resident else Loop
