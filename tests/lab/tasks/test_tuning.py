"""Instruction tuning: its losses, its evaluation and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.tuning import MARKS, QUICK, run, task_of
from infobatch.lab.commands import loading
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.variants import Arm, Variant
from infobatch.lab.config.task_options import TuningOptions
from infobatch.lab.tasks.tokens import NOT_SUPERVISED
from infobatch.lab.training.validate import check_config

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytest.importorskip("tyro")


pytestmark = MARKS


@pytest.fixture
def config(instructions):
    return replace(QUICK, data_dir=instructions)


def test_the_loss_is_the_models_own(config):
    task = task_of(config)
    tokens, labels = task.inputs(task.feed.first(8), np.arange(8))
    losses = task.train_outputs((tokens, labels)).losses
    counts = labels[:, 1:].ne(NOT_SUPERVISED).sum(1)
    own = task.model(input_ids=tokens, labels=labels).loss
    assert abs(float((own - (losses * counts).sum() / counts.sum()).detach())) < 1e-6
    losses.mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in task.model.parameters())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_norms_are_given_where_smoothed_labels_hide_them(config, smoothing):
    task = task_of(replace(config, label_smoothing=smoothing))
    inputs = task.inputs(task.feed.first(8), np.arange(8))
    norms = task.train_outputs(inputs, ["gradient_norms"]).signals.get("gradient_norms")
    assert norms is None if smoothing == 0 else (norms > 0).all()


def test_prompts_and_padding_never_count(config):
    task = task_of(config)
    batch = task.feed.first(8)
    tokens, labels = batch["input_ids"], batch["labels"]
    together = task.train_outputs((tokens, labels)).losses.detach()
    for place, example in enumerate(task.data.train[:8]):
        answer = task.data.tokenizer(example.row.output)["input_ids"]
        assert labels[place][labels[place] != NOT_SUPERVISED].tolist() == [
            *answer,
            task.data.tokenizer.eos_token_id,
        ]
        assert (labels[place][: example.num_prompt] == NOT_SUPERVISED).all()
        alone = task.losses(task.feed.collate([example]), np.arange(1)).detach()
        assert float(alone[0]) == pytest.approx(float(together[place]), abs=1e-5)
    logits = task.forward(task.model, (tokens, labels)).detach().requires_grad_()
    task.sample_outputs(logits, (tokens, labels), ()).losses.sum().backward()
    learned = torch.zeros_like(labels, dtype=torch.bool)
    learned[:, :-1] = labels[:, 1:] != NOT_SUPERVISED
    assert torch.equal(logits.grad.abs().sum(2) > 0, learned)


def test_answers_are_generated_as_one_by_one(config):
    task = task_of(config)
    task.model.eval()
    examples = list(task.data.test[:5])
    with torch.no_grad():
        together = task._generate(task.model, examples)
        lengths = max(example.num_answer for example in examples)
        for example, answer in zip(examples, together, strict=True):
            tokens = torch.from_numpy(example.tokens[: example.num_prompt]).long()[None]
            made = []
            for _ in range(lengths):
                best = task.model(input_ids=tokens).logits[0, -1].argmax()
                if best == task.data.tokenizer.eos_token_id:
                    break
                made.append(int(best))
                tokens = torch.cat([tokens, best[None, None]], dim=1)
            assert answer == task.data.tokenizer.decode(made, skip_special_tokens=True)


def test_arms_of_equal_cost_cost_the_same(config, tmp_path):
    """Fewer epochs of a run with a first look are given what that cost, to within a batch."""
    config = replace(
        config, prior_scores="pass", warmup_epochs=0, tuning=replace(config.tuning, num_generated=0)
    )
    data, variant = loading.load(config), Variant("infobatch")
    comparison = Comparison(config, (variant,), 1, None, tmp_path)
    comparison.check()
    comparison.check_data(data)
    pruned = Arm("pruned", variant)
    costs = {}
    for kind in ("pruned", "fewer-epochs", "random"):
        arm = pruned if kind == "pruned" else Arm(kind, variant)
        made = comparison.run_config(arm, 0)
        costs[kind] = run(made, comparison.folder(arm, 0).path, data).cost
    assert abs(costs["fewer-epochs"] - costs["pruned"]) <= config.batch_size
    assert abs(costs["random"] - costs["pruned"]) <= config.batch_size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "llama-tinny"}, "no model 'llama-tinny'; did you mean llama-tiny"),
        (
            {"data": "mnist5k"},
            "is mnist5k, which is for classification or mae or diffusion, and --task tun",
        ),
        ({"normalizer": "mean"}, "--normalizer is mean, and --task tuning has no such option"),
        ({"ema_decay": 0.9}, r"--ema-decay is 0\.9, and --task tuning has no such option"),
        ({"mixup": 0.2}, "--mixup is for --task classification"),
        ({"policy": "ies"}, "goes by the losses of all samples, and the Trainer does not fetch"),
        ({"policy": "el2n"}, "goes by scores of a classifier of images, and --task is tuning"),
        (
            {"policy": "proportional:by=gradient_norm"},
            "reads gradient norms, and --task tuning has none",
        ),
        ({"prior_scores": "pass"}, "--warmup-epochs 1: an epoch on all data .* --warmup-epochs 0"),
        ({"prior_scores": "pass", "warmup_epochs": 0, "policy": "none"}, "--policy none reads none"),
        ({"tuning": TuningOptions(lora_rank=-1)}, "--tuning.lora-rank is -1; it must be at least 0"),
        ({"tuning": TuningOptions(max_length=1)}, "--tuning.max-length is 1"),
        ({"tuning": TuningOptions(micro_batch=3)}, "--tuning.micro-batch is 3, .* 8"),
    ],
)
def test_bad_options_are_refused(config, changes, message):
    with pytest.raises(ValueError, match=message):
        check_config(replace(config, **changes))


def test_the_command_line_compares_evaluates_and_reports(call, config, tmp_path):
    typed = [
        *("--task", "tuning", "--data", "instructions", "--data-dir", config.data_dir),
        *("--model", "llama-tiny", "--epochs", 3, "--batch-size", 8, "--optimizer", "adamw"),
        *("--lr", 0.01, "--label-smoothing", 0, "--device", "cpu", "--tuning.num-generated", 0),
    ]
    out = tmp_path / "runs"
    code, text, errors = call("compare", *typed, "--seeds", 1, "--out", out)
    assert code == 0, errors
    assert "loss per token (lower is better)" in text
    assert "fewer epochs" in text
    code, text, errors = call("eval", out / "full" / "seed-0", "--device", "cpu")
    assert code == 0, errors
    assert "loss per token" in text
    assert "turning" in text
    code, _, errors = call("train", "--policy", "kakurenbo", *typed)
    assert code == 2
    assert "the Trainer does not fetch" in errors
