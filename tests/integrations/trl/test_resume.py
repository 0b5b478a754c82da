"""GRPO with pruning, stopped and resumed: between generations and within one."""

from functools import partial

import pytest
import torch

pytest.importorskip("trl")

from helpers.language import parameters
from helpers.trl import NOTHING, SMALLER, VARYING, StockGRPO, trainer

pytestmark = [
    pytest.mark.integrations,
    pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing.*` is deprecated:FutureWarning"),
]


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({}, (2, 6, 8)),
        (
            {
                "num_iterations": 2,
                "per_device_train_batch_size": 8,
                "steps_per_generation": 2,
            },
            (4, 6, 23, 24, 27),
        ),
        ({"pruning": SMALLER, "num_iterations": 2, "per_device_train_batch_size": 32}, (4, 9, 12)),
    ],
    ids=["once", "iterations", "smaller"],
)
def test_a_resumed_run_is_the_uninterrupted_one(arguments, steps, tmp_path):
    arguments = {"pruning": VARYING, **arguments}
    make = partial(
        trainer,
        tmp_path,
        save_strategy="steps",
        save_steps=1,
        optim="adamw_torch",
        learning_rate=0.01,
        **arguments,
    )
    whole = make()
    whole.train()
    assert whole.pruner.report().saved > 0.1
    for step in steps:
        resumed = make()
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert resumed.notes.rates == whole.notes.rates[step:], step
        assert resumed.state.global_step == whole.state.global_step
        assert resumed.state.epoch == whole.state.epoch == 3
        assert torch.equal(parameters(whole.model), parameters(resumed.model)), step
        for column in ("last_loss", "visits", "recent_norms"):
            expected, got = whole.pruner.scores[column], resumed.pruner.scores[column]
            assert torch.equal(expected.nan_to_num(-1), got.nan_to_num(-1)), step


def test_completions_are_saved_only_within_a_generation(tmp_path):
    trainer(
        tmp_path, pruning=NOTHING, num_iterations=2, save_strategy="steps", save_steps=1, max_steps=4
    ).train()
    saved = {path.parent.name for path in tmp_path.glob("*/generation_0.pt")}
    assert saved == {"checkpoint-1", "checkpoint-3"}


def test_a_checkpoint_without_a_pruner_is_refused(tmp_path):
    trainer(tmp_path, StockGRPO, save_strategy="epoch", num_train_epochs=1).train()
    with pytest.raises(FileNotFoundError, match=r"checkpoint-6 has no pruner.pt.*without pruning"):
        trainer(tmp_path, pruning=NOTHING).train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))


def test_other_sizes_are_refused_where_they_do_not_fit(tmp_path):
    trainer(tmp_path, pruning=NOTHING, save_strategy="steps", save_steps=1, max_steps=3).train()
    resumed = trainer(tmp_path, pruning=NOTHING, per_device_train_batch_size=32)
    with pytest.raises(ValueError, match="saved 4 prompts into epoch 0, no multiple of the 8 of an"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_another_number_of_processes_is_refused_within_a_generation(tmp_path):
    trainer(
        tmp_path, pruning=NOTHING, num_iterations=2, save_strategy="steps", save_steps=1, max_steps=2
    ).train()
    folder = tmp_path / "checkpoint-1"
    (folder / "generation_1.pt").write_bytes((folder / "generation_0.pt").read_bytes())
    with pytest.raises(ValueError, match="within a generation by 2 processes, and there are 1"):
        trainer(tmp_path, pruning=NOTHING, num_iterations=2).train(resume_from_checkpoint=str(folder))
