"""What several test files need."""

import json
import os
import socket
import subprocess
import sys
import textwrap
import warnings
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch.utils.data import Dataset

from infobatch import InfoBatch, Replicated
from infobatch.policies import Protected
from infobatch.scores import ScoreTable

UNMERGED = Replicated(merge=lambda scores, recorded: recorded)
"""The layout of ranks that a test runs in one process: their scores are not merged."""


class Numbers(Dataset):
    """Sample i is the number i, so that an index that came with it can be checked."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(index)
        return torch.tensor(float(index))


def record_epoch(pruner, losses):
    """Record given losses, shape (N,), for all that the epoch still trains."""
    order = pruner.current.resume_order  # of all ranks, which one may record only all at once
    for batch in order.split(50 if pruner.replicas.num_replicas == 1 else max(1, len(order))):
        pruner.record(losses[batch], batch.numpy())


def train_epoch(pruner, loader, losses):
    """Feed the losses of an epoch's batches through ``update``; the batches' indices."""
    batches = []
    for samples, _ in loader:
        pruner.update(losses[samples], samples)
        batches.append(samples)
    return batches


def random_losses(size, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).gamma(1.0, 1.0, size).astype("float32"))


def launch(program, num_replicas, folder, path=()):
    """Run a program in as many processes, as torchrun does; what they saved, by rank."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {
        "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")]),
        "WORLD_SIZE": str(num_replicas),
    }
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(num_replicas), str(folder)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_replicas)
    ]
    try:
        errors = [process.communicate(timeout=100)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * num_replicas, "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt") for rank in range(num_replicas)]


def made_once(name, make, tmp_path_factory):
    """The folder that ``make`` filled, the same in all of pytest's processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            make(folder)
    return folder


@contextmanager
def ray_cluster():
    """Ray on this machine, with room for two workers that find the tests' own modules."""
    ray = pytest.importorskip("ray")
    here = Path(__file__).parent
    paths = [here, here / "integrations", here.parent / "examples"]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="ray")  # of its own use
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)), prepend=os.pathsep)
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False)
        try:
            yield
        finally:
            ray.shutdown()


def table_of(losses, policy):
    """The score table that ``policy`` needs, the losses recorded in batches of ten."""
    losses = np.asarray(losses, dtype=np.float32)
    table = ScoreTable(len(losses), list(dict.fromkeys(["last_loss", "visits", *policy.columns])))
    for start in range(0, len(losses), 10):
        batch = np.arange(start, min(start + 10, len(losses)))
        table.record(batch, *[losses[batch]] * (1 + len(table.signals)))
    return table


def made(kind, num_samples):
    """A policy at its defaults, given labels or scores where it asks for them."""
    samples = np.arange(num_samples)
    known = {"labels": samples % 3, "scores": np.sin(samples)}
    if kind is Protected:
        known |= {"policy": InfoBatch(0.8), "kept": samples % 5 == 0}
    asked = signature(kind).parameters
    return kind(**{name: values for name, values in known.items() if name in asked})


# -- Runs of the lab -------------------------------------------------------------------------------


def changed(config, values):
    """A copy with other values, those of a task's group named ``group.option``."""
    for name, value in values.items():
        group, _, option = name.rpartition(".")
        new = {group: replace(getattr(config, group), **{option: value})} if group else {name: value}
        config = replace(config, **new)
    return config


def run(config, data, path, **options):
    """Train a run of the lab into a folder, from its checkpoint if it has one."""
    from infobatch.lab.runs.folder import RunFolder
    from infobatch.lab.training.train import train

    folder = RunFolder(path)
    if not folder.exists:
        folder.create(config)
    return train(config, data, folder, **options)


def stop_after(num_steps):
    """A ``should_stop`` that is true at the end of that step."""
    asked = iter(range(1, num_steps))
    return lambda: next(asked, None) is None


def without_times(folder):
    """What a run's folder tells of its epochs."""
    return [
        {name: value for name, value in json.loads(line).items() if name != "seconds"}
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
