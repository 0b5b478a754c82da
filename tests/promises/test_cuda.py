"""What can only be seen on a CUDA device: no step waits for it, and it gives what the CPU gives."""

import warnings
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset

from infobatch import DynamicPruner, InfoBatch, classification_gradient_norms
from infobatch.policies import Proportional

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@contextmanager
def no_waiting():
    """Any wait for the device inside raises an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the first call in a process says that it is a prototype
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def train(device, num_epochs=4, pin_memory=False, dtype=torch.float32, scaling="none", **options):
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(
        torch.randn(1000, 16, generator=generator), torch.randint(4, (1000,), generator=generator)
    )
    torch.manual_seed(0)
    model = torch.nn.Linear(16, 4).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    pruner = DynamicPruner(data, num_epochs, **options)
    loader = pruner.loader(batch_size=64, pin_memory=pin_memory)
    scheduler = pruner.lr_scheduler(
        torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=pruner.full_steps),
        scaling=scaling,
    )
    for _ in pruner.epochs():
        batches = iter(loader)
        with no_waiting() if pin_memory else torch.enable_grad():
            for indices, (x, y) in batches:
                x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
                logits = model(x)
                losses = F.cross_entropy(logits, y, reduction="none").to(dtype)
                norms = classification_gradient_norms(logits, y)
                pruner.update(losses, indices, gradient_norms=norms).backward()
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
    return pruner, model


BY_NORMS = {
    "policy": Proportional(by="smoothed_norm"),
    "target": 0.2,
    "normalizer": "mean",
    "scaling": "sqrt",
}


@pytest.mark.parametrize("options", [{}, BY_NORMS], ids=["losses", "norms"])
def test_no_step_waits_for_the_device(options):
    train("cuda", pin_memory=True, **options)


def test_gradient_norms_are_those_of_the_host():
    runs = [train(device, num_epochs=1, policy=BY_NORMS["policy"]) for device in ("cuda", "cpu")]
    norms = (pruner.scores["smoothed_norm"] for pruner, _ in runs)
    torch.testing.assert_close(*norms, rtol=1e-3, atol=1e-3)


def test_the_device_gives_what_the_host_gives():
    (ours, our_model), (theirs, their_model) = train("cuda", pin_memory=True), train("cpu")
    assert torch.equal(ours.scores["visits"], theirs.scores["visits"])
    torch.testing.assert_close(
        ours.scores["last_loss"], theirs.scores["last_loss"], rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(our_model.weight.cpu(), their_model.weight, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_losses_of_any_dtype_become_scores(dtype):
    pruner, _ = train("cuda", num_epochs=2, dtype=dtype)
    assert pruner.scores["last_loss"].isfinite().all()
    assert pruner.scores["last_loss"].dtype == torch.float32


def test_more_losses_than_a_block_holds_arrive_with_their_samples():
    num_samples = 200_000
    pruner = DynamicPruner(range(num_samples), 2, policy=InfoBatch())
    loader = pruner.loader(batch_size=10_000, collate_fn=torch.tensor)
    for indices, batch in loader:
        pruner.update(batch.cuda().float(), indices)
    assert torch.equal(pruner.scores["last_loss"], torch.arange(num_samples).float())


def test_indices_on_the_device_are_refused():
    pruner = DynamicPruner(range(8), 2, policy=InfoBatch())
    with pytest.raises(TypeError, match="reading them would wait for the device"):
        pruner.update(torch.ones(8, device="cuda"), torch.arange(8, device="cuda"))


def coloured_images():
    """600 images, whose brightness in one channel tells their class."""
    from infobatch.lab.data import ImageData, Images

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 4
    pixels = torch.randint(120, (600, 3, 16, 16), generator=generator)
    pixels[:, 0] += 30 * labels[:, None, None]
    images = Images(pixels.to(torch.uint8), labels)
    return ImageData("colours", images, images, ("0", "1", "2", "3"), crop_padding=2, flip=True)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # inductor's
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"precision": "bf16", "compile": True},
        {"mixup": 0.2, "ema_decay": 0.9, "clip_norm": 1.0},
        {"optimizer": "lars", "lr": 20.0, "normalizer": "weights"},
        {"resident": True, "schedule": "triangle"},
        {"resident": True, "schedule": "triangle", "policy": "noise-budget", "batch_multiple": 8},
        {"resident": True, "schedule": "triangle", "optimizer": "adamw", "lr": 0.01, "clip_norm": 1.0},
        {"resident": True, "schedule": "triangle", "optimizer": "nesterov", "precision": "bf16"},
    ],
    ids=str,
)
def test_the_lab_trains_on_the_device(tmp_path, options):
    config_module = pytest.importorskip("infobatch.lab.config.train")
    from infobatch.lab.runs.folder import RunFolder
    from infobatch.lab.training.train import train as train_run

    data = coloured_images()
    config = config_module.TrainConfig(
        data="cifar10", model="resnet8", epochs=6, batch_size=64, device="cuda", **options
    )
    folder = RunFolder(tmp_path / "run")
    folder.create(config)
    summary = train_run(config, data, folder)
    assert summary.result > 60
    assert summary.num_trained < summary.num_full
    again = RunFolder(tmp_path / "again")
    again.create(replace(config, policy="none"))
    assert train_run(replace(config, policy="none"), data, again).num_trained == 3600


@pytest.mark.parametrize("task", ["tabular", "regression"])
def test_tables_are_trained_and_judged_on_the_device(tmp_path, task):
    pytest.importorskip("infobatch.lab.config.train")
    from helpers.lab import run
    from infobatch.lab.config.train import defaults_of
    from infobatch.lab.data.schema import Schema
    from infobatch.lab.data.tables import Table, TableData

    numbers = torch.randn(600, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sums, names = numbers.sum(1), ("low", "high")
    labels, names = (sums, ()) if task == "regression" else ((sums > 0).long(), names)
    rows = Table(numbers, torch.zeros(600, 0, dtype=torch.int64), labels)
    schema = Schema(("a", "b", "c", "d"), (), "sum")
    data = TableData(name="sums", train=rows, test=rows, class_names=names, schema=schema, categories=())
    config = replace(defaults_of(task), task=task, epochs=4, batch_size=50, device="cuda")
    assert run(config, data, tmp_path / "run").result < (0.5 if task == "tabular" else 50)


def test_recorded_steps_give_what_the_ordinary_loop_gives(tmp_path):
    pytest.importorskip("infobatch.lab.config.train")
    from helpers.lab import run
    from infobatch.lab.config.train import TrainConfig
    from infobatch.lab.runs.folder import RunFolder

    data = coloured_images()
    config = TrainConfig(
        data="cifar10", model="resnet8", epochs=4, batch_size=64, device="cuda", schedule="triangle"
    )
    for resident in (False, True):
        run(replace(config, resident=resident), data, tmp_path / str(resident))
    ours, theirs = (RunFolder(tmp_path / name).metrics() for name in ("True", "False"))
    first = (ours[0].train_loss, theirs[0].train_loss)
    assert first[0] == pytest.approx(first[1], rel=1e-2)
    assert ours[-1].result == pytest.approx(theirs[-1].result, abs=15)
