"""Runs of each framework that record their epochs: the last one too, and the same when resumed."""

import shutil

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytest.importorskip("lightning")

from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging

from helpers.accelerate import Run as AccelerateRun
from helpers.accelerate import new_pruner
from helpers.language import classifier, labelled_sentences, pad_labelled
from helpers.lightning import MARKS, Module, fit
from helpers.lightning import VARYING as LIGHTNING
from helpers.trainer import VARYING, trainer
from infobatch import NoPruning, RandomPruning, classification_margins, read_dynamics

pytestmark = MARKS


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def check_rows(folder, pruner):
    """Every epoch is there, and of as many samples as the run trained."""
    dynamics = read_dynamics(folder)
    assert dynamics.epochs == list(range(pruner.num_epochs))
    counts = [counts.num_recorded for counts in pruner.report().epochs]
    assert [len(record.index) for record in dynamics] == counts
    assert min(counts) < counts[0]


def test_the_trainer(tmp_path):
    def make(to):
        pruning = {**VARYING, "record_to": tmp_path / to}
        return trainer(tmp_path / "run", pruning=pruning, save_strategy="steps", save_steps=1)

    whole = make("whole")
    whole.train()
    check_rows(tmp_path / "whole", whole.pruner)
    expected = contents(tmp_path / "whole")
    last = whole.state.global_step
    for step in (last - 2, last):
        part = tmp_path / f"part-{step}"
        shutil.copytree(tmp_path / "whole", part)
        (part / "epoch-00002.parquet").unlink()
        make(part.name).train(resume_from_checkpoint=str(tmp_path / f"run/checkpoint-{step}"))
        assert contents(part) == expected, step


def test_the_trainer_records_margins_of_classes(tmp_path):
    pruning = {"policy": NoPruning(), "record_to": tmp_path / "record"}
    data = labelled_sentences()
    made = trainer(
        tmp_path, model=classifier(), data=data, collate=pad_labelled, pruning=pruning, learning_rate=0.0
    )
    made.train()
    with torch.no_grad():
        logits = torch.cat([made.model(**pad_labelled([each])).logits for each in data])
    margins = classification_margins(logits, torch.tensor([each["labels"] for each in data]))
    for record in read_dynamics(tmp_path / "record"):
        assert record.margin == pytest.approx(margins.numpy(), rel=1 / 64, abs=1e-3)


def test_lightning(tmp_path):
    saved = ModelCheckpoint(tmp_path / "saved", "{step}", every_n_train_steps=1, save_top_k=-1)
    pruning = {**LIGHTNING, "record_to": tmp_path / "whole"}
    _, callback, whole = fit(pruning, callbacks=[saved])
    check_rows(tmp_path / "whole", callback.pruner)
    part = tmp_path / "part"
    shutil.copytree(tmp_path / "whole", part)
    (part / "epoch-00003.parquet").unlink()
    checkpoint = tmp_path / f"saved/step={whole.global_step - 1}.ckpt"
    fit({**pruning, "record_to": part}, resume=str(checkpoint))
    assert contents(part) == contents(tmp_path / "whole")


class Normalized(Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.BatchNorm1d(6), self.layers)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_pass_of_lightnings_that_only_measures_is_not_recorded(tmp_path):
    average = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=2)
    pruning = {"policy": RandomPruning(0.4), "delta": 1, "record_to": tmp_path}
    _, callback, trainer = fit(pruning, Normalized(), callbacks=[average])
    assert trainer.current_epoch == 5
    check_rows(tmp_path, callback.pruner)


def test_accelerate(tmp_path, monkeypatch):
    def run(to):
        monkeypatch.setattr(
            "helpers.accelerate.new_pruner",
            lambda policy, **options: new_pruner(policy, record_to=tmp_path / to, **options),
        )
        torch.manual_seed(0)
        return AccelerateRun()

    whole = run("whole").train()
    check_rows(tmp_path / "whole", whole.pruner)
    run("part").train(num_updates=20, folder=tmp_path / "state")
    resumed = run("part")
    resumed.accelerator.load_state(tmp_path / "state")
    resumed.train()
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")
