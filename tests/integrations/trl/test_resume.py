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


SEVERAL = {"num_iterations": 2, "steps_per_generation": 2, "per_device_train_batch_size": 8}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    made = trainer(
        folder, pruning=NOTHING, **SEVERAL, save_strategy="steps", save_steps=1, num_train_epochs=1
    )
    made.train()
    return folder


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


def test_completions_that_are_lost_are_told_of(tmp_path):
    arguments = {"pruning": NOTHING, "num_iterations": 2, "max_steps": 4}
    trainer(tmp_path, **arguments, save_strategy="steps", save_steps=1).train()
    (tmp_path / "checkpoint-1" / "generation_0.pt").unlink()
    with pytest.raises(ValueError, match=r"generation_0\.pt cannot be read \(FileNotFoundError\)"):
        trainer(tmp_path, **arguments).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_completions_of_an_earlier_run_are_passed_over(tmp_path):
    arguments = {"pruning": NOTHING, "num_iterations": 2, "max_steps": 4}
    whole = trainer(tmp_path, **arguments, save_strategy="steps", save_steps=1)
    whole.train()
    for rank in range(2):
        (tmp_path / "checkpoint-2" / f"generation_{rank}.pt").write_bytes(b"stale")
    resumed = trainer(tmp_path, **arguments)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(parameters(whole.model), parameters(resumed.model))


@pytest.mark.parametrize(
    "others",
    [
        {"steps_per_generation": 4, "per_device_train_batch_size": 4},
        {"num_iterations": 1},
        {"num_generations": 2},
        {"gradient_accumulation_steps": 2},
    ],
    ids=lambda others: next(iter(others)),
)
@pytest.mark.parametrize("step", [1, 3, 4, 23])
def test_other_sizes_are_refused_within_an_epoch(others, step, checkpoints):
    name, value = next(iter(others.items()))
    resumed = trainer(checkpoints, pruning=NOTHING, **{**SEVERAL, **others})
    with pytest.raises(
        ValueError, match=f"{name} is {value}, and .* within an epoch that is trained with"
    ):
        resumed.train(resume_from_checkpoint=str(checkpoints / f"checkpoint-{step}"))


def test_other_sizes_will_do_between_epochs(checkpoints):
    resumed = trainer(
        checkpoints, pruning=NOTHING, **{**SEVERAL, "num_iterations": 1}, num_train_epochs=2
    )
    resumed.train(resume_from_checkpoint=str(checkpoints / "checkpoint-24"))
    assert resumed.pruner.report().num_recorded == 2 * 24


def test_completions_go_to_the_device(checkpoints):
    resumed = trainer(checkpoints, pruning=NOTHING, **SEVERAL)
    resumed.accelerator.state.device = torch.device("meta")
    try:
        resumed._resume(checkpoints / "checkpoint-1")
    finally:
        resumed.accelerator.state.device = torch.device("cpu")
    assert {value.device.type for value in resumed._buffered_inputs[0].values()} == {"meta"}


def test_a_checkpoint_without_a_pruner_is_refused(tmp_path):
    trainer(tmp_path, StockGRPO, save_strategy="epoch", num_train_epochs=1).train()
    with pytest.raises(FileNotFoundError, match=r"checkpoint-6 has no pruner.pt.*without pruning"):
        trainer(tmp_path, pruning=NOTHING).train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))


def test_another_number_of_processes_is_refused_within_a_generation(tmp_path):
    trainer(
        tmp_path, pruning=NOTHING, num_iterations=2, save_strategy="steps", save_steps=1, max_steps=2
    ).train()
    folder = tmp_path / "checkpoint-1"
    state = torch.load(folder / "generations.pt")
    torch.save({**state, "num_processes": 2}, folder / "generations.pt")
    with pytest.raises(ValueError, match="within a generation by 2 processes, and there are 1"):
        trainer(tmp_path, pruning=NOTHING, num_iterations=2).train(resume_from_checkpoint=str(folder))
