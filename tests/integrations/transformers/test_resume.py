"""The Trainer with pruning, stopped and resumed."""

from functools import partial

import numpy as np
import pytest
import torch

from helpers.language import causal_model, parameters

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import get_scheduler

from helpers.trainer import SMALLER, VARYING, Stock, trainer
from infobatch import InfoBatch
from infobatch.integrations.transformers import STATE_FILE

pytestmark = pytest.mark.integrations


@pytest.mark.parametrize(
    "arguments",
    [
        {"gradient_accumulation_steps": 3},
        {"gradient_accumulation_steps": 2, "dataloader_num_workers": 2},
        {"dataloader_drop_last": True},
    ],
)
@pytest.mark.parametrize("pruning", [VARYING, SMALLER], ids=["steps", "batches"])
def test_a_resumed_run_is_the_uninterrupted_one(arguments, pruning, tmp_path):
    arguments = {
        "num_train_epochs": 3,
        "save_strategy": "steps",
        "save_steps": 1,
        "optim": "adamw_torch",
        "learning_rate": 0.01,
        **arguments,
    }
    make = partial(trainer, tmp_path, pruning=pruning, **arguments)
    whole = make(model=causal_model(dropout=0.1))
    whole.train()
    ends = np.flatnonzero(np.isclose(np.array(whole.notes.positions) % 1, 0)) + 1
    for step in (2, *ends[:1], ends[0] + 2, ends[2]):
        resumed = make(model=causal_model(dropout=0.1))
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert resumed.notes.rates == whole.notes.rates[step:], step
        assert resumed.state.epoch == whole.state.epoch == 3
        assert resumed.state.global_step == whole.state.global_step
        assert torch.equal(parameters(whole.model), parameters(resumed.model)), step
        for column in ("last_loss", "visits"):
            expected, got = whole.pruner.scores[column], resumed.pruner.scores[column]
            assert torch.equal(expected.nan_to_num(-1), got.nan_to_num(-1)), step
        assert torch.equal(whole.pruner.selection.weights, resumed.pruner.selection.weights)


@pytest.mark.parametrize(
    "changed", [{"num_train_epochs": 6}, {"per_device_train_batch_size": 5}], ids=str
)
def test_a_run_of_another_length_has_the_rate_of_its_position(changed, tmp_path):
    arguments = {"lr_scheduler_type": "cosine", "warmup_steps": 3, "save_strategy": "epoch"}
    trainer(tmp_path / "first", pruning=VARYING, **arguments).train()
    ends = sorted((tmp_path / "first").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in ends[:: len(ends) - 1] if "num_train_epochs" in changed else ends[:1]:
        resumed = trainer(tmp_path / "again", pruning=VARYING, **{**arguments, **changed})
        resumed.train(resume_from_checkpoint=str(checkpoint))
        length = resumed.args.num_train_epochs * -(-50 // resumed.args.per_device_train_batch_size)
        plain = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
        schedule, rates = get_scheduler("cosine", plain, 3, length), []
        for _ in range(length):
            rates += schedule.get_last_lr()
            plain.step()
            schedule.step()
        assert resumed.notes.rates == pytest.approx(
            [rates[int(p * length + 1e-6)] for p in resumed.begun]
        )


def test_a_checkpoint_without_a_pruner_is_refused(tmp_path):
    stock = trainer(tmp_path, Stock, save_strategy="epoch")
    stock.train()
    with pytest.raises(
        FileNotFoundError, match=f"checkpoint-13 has no {STATE_FILE}.*saved without pruning"
    ):
        trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-13"))


def test_a_checkpoint_without_its_numbers_of_items_is_refused(tmp_path):
    trainer(tmp_path, save_strategy="epoch").train()
    (tmp_path / "checkpoint-13" / "items.pt").unlink()
    with pytest.raises(ValueError, match=r"items.pt cannot be read .*resume from an older checkpoint"):
        trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-13"))


def test_another_batch_size_is_refused_where_it_does_not_fit(tmp_path):
    paper = {"policy": InfoBatch()}
    trainer(tmp_path, pruning=paper, save_strategy="steps", save_steps=5).train()
    resumed = trainer(tmp_path, pruning=paper, per_device_train_batch_size=8)
    with pytest.raises(ValueError, match="saved 20 samples into epoch 0, no multiple of the 8"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))


def test_smaller_batches_of_another_size_are_refused_where_they_do_not_fit(tmp_path):
    trainer(tmp_path, pruning=SMALLER, save_strategy="steps", save_steps=15).train()
    resumed = trainer(tmp_path, pruning=SMALLER, per_device_train_batch_size=5)
    with pytest.raises(
        ValueError, match=r"saved \d samples into epoch 1, no multiple of the sizes of an"
    ):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-15"))
