"""An epoch on the device: the numbers of the ordinary loop, and steps that read nothing back."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import run, stop_after
from helpers.digits import QUICK
from infobatch import DynamicPruner
from infobatch.lab.data import ImageData, Images
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.classification import Classification
from infobatch.lab.training.device_steps import DeviceSteps
from infobatch.lab.training.epoch_loop import make_loader
from infobatch.lab.training.optimization import Optimization
from infobatch.lab.training.optimizers import make_optimizer
from infobatch.lab.training.pauses import Interrupted
from infobatch.lab.training.pruner_options import pruner_options
from infobatch.lab.training.resident import DeviceEpochs
from infobatch.lab.training.validate import check_config

TRIANGLE = replace(QUICK, schedule="triangle")
FILES = ("model.safetensors", "scores.npz")


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "none"},
        {"policy": "infobatch", "cutout": 2},
        {"policy": "noise-budget:max_noise=1.3"},
        {"shrink": "batches", "batch_norm": "weighted", "normalizer": "mean"},
        {"normalizer": "weights", "ema_decay": 0.9, "clip_norm": 1.0},
        {"optimizer": "nesterov", "lr": 0.3, "policy": "neyman", "target": 0.2, "drop_last": True},
        {"policy": "kakurenbo", "target": 0.2, "delta": 1.0},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_it_is_the_ordinary_loop_bit_for_bit(data, tmp_path, options):
    config = replace(TRIANGLE, **options)
    for resident in (False, True):
        run(replace(config, resident=resident), data, tmp_path / str(resident))
    files = [[(tmp_path / str(r) / name).read_bytes() for r in (False, True)] for name in FILES]
    assert all(ordinary == resident for ordinary, resident in files)
    losses = [[m.train_loss for m in RunFolder(tmp_path / str(r)).metrics()] for r in (False, True)]
    assert losses[0] == losses[1]


def test_it_goes_on_within_an_epoch(data, tmp_path):
    config = replace(TRIANGLE, resident=True, policy="noise-budget:max_noise=1.3")
    run(config, data, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(config, data, tmp_path / "cut", should_stop=stop_after(16))
    run(config, data, tmp_path / "cut")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


# -- What a device would be asked -------------------------------------------------------------------


class Copies(TorchDispatchMode):
    """Notes what is sent to the meta device, which holds no values: reading one raises an error."""

    def __init__(self):
        super().__init__()
        self.sent = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        to_device = options.get("device") == torch.device("meta")
        if function is torch.ops.aten._to_copy.default and to_device and not arguments[0].is_meta:
            self.sent.append((len(arguments[0]), options.get("non_blocking", False)))
        return function(*arguments, **options)


def coloured():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 4
    pixels = torch.randint(256, (600, 3, 16, 16), generator=generator).to(torch.uint8)
    images = Images(pixels, labels)
    return ImageData("colours", images, images, ("0", "1", "2", "3"), crop_padding=2, flip=True)


def on_meta(config):
    """A task on the meta device, with its optimization and pruner."""
    config = replace(config, device="meta", model="small-cnn", cutout=4, data="cifar10")
    data = coloured()
    task = Classification(config, data)
    options = pruner_options(config, data, None, None)
    pruner = DynamicPruner(task.feed.dataset, config.epochs, **options)
    loader = make_loader(config, task, pruner)
    optimization = Optimization(config, task.model, pruner)
    task.begin(0)
    return task, pruner, loader, optimization


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "nesterov"},
        {"optimizer": "adamw", "clip_norm": 1.0},
        {"policy": "noise-budget"},
        {"label_smoothing": 0.1},
    ],
    ids=str,
)
def test_a_step_on_the_device_sends_and_reads_nothing(options):
    config = replace(TRIANGLE, **options)
    task, pruner, loader, optimization = on_meta(config)
    steps = DeviceSteps(task, optimization, config.normalizer, pruner.signals)
    epoch = DeviceEpochs(pruner, loader.batch_sampler, task.device, lambda: True)
    with Copies() as copies:
        batches = list(epoch)
    num_batches = len(batches)
    sizes = (600, 600, 600 + 2 * num_batches)  # the order, the weights, and those of batch norm
    assert copies.sent == [(size, True) for size in sizes]
    with Copies() as copies:
        for indices, batch in batches:
            outputs = steps(batch)
            pruner.record(outputs.losses, indices, **outputs.signals)
            optimization.advance()
    assert copies.sent == []


def test_a_step_of_the_ordinary_loop_sends_indices_and_weights():
    task, pruner, loader, optimization = on_meta(TRIANGLE)
    with Copies() as copies:
        for indices, batch in loader:
            outputs = task.train_outputs(task.inputs(batch, indices))
            optimization.step(pruner.update(outputs.losses, indices))
    sizes = [128, 128, 128, 128, 88]
    assert copies.sent == [(size, True) for size in sizes for _ in range(2)]


# -- What it does not go with ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "one-cycle"}, "--schedule is one-cycle, which changes the momentum"),
        ({"precision": "fp16"}, "--precision is fp16, whose scale is read"),
        ({"optimizer": "lars"}, "--optimizer is lars, which reads norms of weights"),
        ({"mixup": 0.2}, "--mixup is 0.2, which changes a step"),
        ({"lr_scaling": "sqrt"}, "--lr-scaling is sqrt, which changes a step"),
        ({"policy": "none", "backward_share": 0.5}, "--backward-share is 0.5, which changes a step"),
    ],
    ids=str,
)
def test_options_without_a_recorded_step_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        check_config(replace(TRIANGLE, resident=True, **options))


def test_the_device_gets_whole_epochs_where_that_is_asked_for(data, tmp_path, monkeypatch):
    taken = []
    begin = DeviceEpochs.__iter__

    def noted(epochs):
        taken.append(epochs)
        return begin(epochs)

    monkeypatch.setattr(DeviceEpochs, "__iter__", noted)
    for resident in (True, False):
        run(replace(TRIANGLE, resident=resident), data, tmp_path / str(resident))
        assert len(taken) == TRIANGLE.epochs


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adamw"])
@pytest.mark.parametrize("begun", [False, True], ids=["fresh", "begun"])
def test_steps_before_recording_leave_no_trace(data, optimizer, begun):
    config = replace(TRIANGLE, optimizer=optimizer, batch_norm="weighted")
    task = Classification(config, data)
    pruner = DynamicPruner(task.feed.dataset, 2, **pruner_options(config, data, None, None))
    batches = make_loader(config, task, pruner).batch_sampler
    optimization = Optimization(config, task.model, pruner)
    steps = DeviceSteps(task, optimization, "batch", ())
    task.begin(0)
    first, second, *_ = (batch for _, batch in DeviceEpochs(pruner, batches, task.device, lambda: True))
    if begun:
        steps(first)
    twin = copy.deepcopy((task.model.state_dict(), optimization.state_dict()))
    with steps._undone():
        for _ in range(3):
            steps(second)
    after_second = steps(second).mean
    weights = {name: value.clone() for name, value in task.model.state_dict().items()}
    task.model.load_state_dict(twin[0])
    optimization.optimizer = make_optimizer(optimizer, task.model, config.lr, config.weight_decay)
    optimization.optimizer.load_state_dict(twin[1]["optimizer"])
    assert torch.equal(steps(second).mean, after_second)
    assert all(torch.equal(value, weights[name]) for name, value in task.model.state_dict().items())
