"""Runs of the lab."""

import json
import resource
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch


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


def check_goes_on(config, data, path):
    """A run that is interrupted in its sixth step goes on to the same end, bit for bit."""
    from infobatch.lab.training.pauses import Interrupted

    whole = run(config, data, path / "whole")
    assert whole.num_trained < whole.num_full
    with pytest.raises(Interrupted):
        run(config, data, path / "cut", should_stop=stop_after(6))
    assert run(config, data, path / "cut").result == whole.result
    weights = [(path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def without_times(folder):
    """What a run's folder tells of its epochs."""
    return [
        {name: value for name, value in json.loads(line).items() if name != "seconds"}
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def loss_of(model, scale=1.0):
    generator = torch.Generator().manual_seed(1)
    return scale * model(torch.randn(8, 4, generator=generator)).square().mean()


@contextmanager
def full_disk(size=20_000):
    """No file grows beyond so many bytes; smaller ones are written as ever."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
