"""Instruction tuning in the lab, trained by the Hugging Face Trainer."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import stop_after, without_times

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytest.importorskip("tyro")

from infobatch.lab.commands import options
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.variants import Arm, Variant
from infobatch.lab.config.task_options import TuningOptions
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.models import language
from infobatch.lab.runs.folder import RunFolder, saved_tensors
from infobatch.lab.tasks.tokens import NOT_SUPERVISED, prompt_of
from infobatch.lab.tasks.tuning import Tuning
from infobatch.lab.training.pauses import Interrupted
from infobatch.lab.training.train import train
from infobatch.lab.training.validate import check_config, check_run

pytestmark = [
    pytest.mark.integrations,
    # PEFT still calls it by its old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

QUICK = TrainConfig(
    task="tuning",
    data="instructions",
    model="llama-tiny",
    epochs=4,
    batch_size=8,
    optimizer="adamw",
    lr=0.01,
    label_smoothing=0.0,
    device="cpu",
    tuning=TuningOptions(max_length=192, num_generated=4),
)


def rows(number, seed):
    """Sums, and words in another order: two tasks, one without an input."""
    made = []
    for place in range(number):
        a, b = (seed + 7 * place) % 9, (seed + 5 * place) % 8
        if place % 2:
            made.append({"instruction": f"Add {a} and {b}.", "output": str(a + b), "task": "sums"})
        else:
            words = {"instruction": "Turn it around.", "input": "ab" * (1 + a), "task": "turning"}
            made.append({**words, "output": "ba" * (1 + a)})
    return made


@pytest.fixture(autouse=True)
def tiny_models(monkeypatch):
    monkeypatch.setitem(language.SHAPES, "llama-tiny", (language._llama(16, 1, 2), 320))
    monkeypatch.setitem(language.SHAPES, "gpt2-tiny", (language._gpt2(16, 1, 2), 320))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("instructions")
    (path / "train.json").write_text(json.dumps(rows(42, 0)))
    (path / "test.jsonl").write_text("\n".join(map(json.dumps, rows(10, 3))))
    return path


@pytest.fixture
def config(folder):
    return replace(QUICK, data_dir=folder)


def run(config, path, data=None, **others):
    folder = RunFolder(path)
    if not folder.exists:
        folder.create(config)
    return train(config, data or options.load(config), folder, **others)


def task_of(config):
    return Tuning(config, options.load(config))


def test_the_loss_is_the_models_own(config):
    task = task_of(config)
    tokens, labels = task.inputs(task.feed.first(8), np.arange(8))
    losses = task.train_outputs((tokens, labels)).losses
    counts = labels[:, 1:].ne(NOT_SUPERVISED).sum(1)
    own = task.model(input_ids=tokens, labels=labels).loss
    assert abs(float((own - (losses * counts).sum() / counts.sum()).detach())) < 1e-6
    losses.mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in task.model.parameters())


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


def test_the_prompt_is_alpacas(config):
    data = options.load(config)
    text = data.tokenizer.decode(data.train[0].tokens[: data.train[0].num_prompt])
    assert text == prompt_of(data.train[0].row)
    assert text.endswith("### Instruction:\nTurn it around.\n\n### Input:\nab\n\n### Response:\n")
    assert "### Input" not in prompt_of(data.train[1].row)


def test_a_run_learns_and_leaves_its_folder(config, tmp_path):
    summary = run(config, tmp_path)
    metrics = RunFolder(tmp_path).metrics()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("config.json", "metrics.jsonl", "scores.npz"),
        *("model.safetensors", "summary.json"),
    }
    assert metrics[-1].train_loss < metrics[0].train_loss
    assert summary.result == metrics[-1].result < metrics[0].result
    assert [m.num_kept for m in metrics][::3] == [42, 42]
    assert metrics[1].num_kept < 42
    assert summary.num_steps == sum(-(-m.num_kept // 8) for m in metrics)
    assert {"exact match %", "most frequent answer %"} == set(summary.details)
    with np.load(tmp_path / "scores.npz") as scores:
        assert scores["visits"].sum() == summary.num_trained
    task = task_of(config)
    RunFolder(tmp_path).load_model(task.model)
    again = task.evaluate()
    assert again.result == summary.result
    assert again.counts == [5, 5]


def test_recorded_scores_are_the_answers_mean_losses(config, tmp_path):
    """At a rate of nearly nothing they are those of the weights the run ends with."""
    config = replace(config, lr=1e-9, policy="none", epochs=1)
    run(config, tmp_path)
    task = task_of(config)
    RunFolder(tmp_path).load_model(task.model)
    expected = task.losses(task.feed.first(42), np.arange(42)).detach().numpy()
    np.testing.assert_allclose(RunFolder(tmp_path).scores()["last_loss"], expected, rtol=1e-4)
    metrics = RunFolder(tmp_path).metrics()[0]
    counts = np.array([example.num_answer for example in task.data.train])
    assert metrics.train_loss == pytest.approx((expected * counts).sum() / counts.sum(), rel=1e-4)


@pytest.mark.parametrize("stop", [6, 8, 21])
def test_an_interrupted_run_goes_on_bit_for_bit(config, tmp_path, stop):
    data = options.load(config)
    whole = run(config, tmp_path / "whole", data)
    assert whole.num_steps == 21
    with pytest.raises(Interrupted):
        run(config, tmp_path / "cut", data, should_stop=stop_after(stop))
    assert not (tmp_path / "cut" / "summary.json").exists()
    assert list((tmp_path / "cut" / "trainer").glob("checkpoint-*/account.pt"))
    resumed = run(config, tmp_path / "cut", data)
    assert (resumed.result, resumed.num_steps) == (whole.result, whole.num_steps)
    assert without_times(tmp_path / "cut") == without_times(tmp_path / "whole")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "cut" / "trainer").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "gpt2-tiny", "tuning": {"micro_batch": 4}, "clip_norm": 1.0},
        {"tuning": {"lora_rank": 2}, "policy": "proportional", "target": 0.2, "precision": "bf16"},
        {"prior_scores": "pass", "warmup_epochs": 0, "epochs": 2.5},
    ],
    ids=["gpt2, accumulated", "adapters", "first epoch pruned"],
)
def test_every_way_of_training_goes_on_bit_for_bit(config, tmp_path, changes):
    if "lora_rank" in changes.get("tuning", {}):
        pytest.importorskip("peft")
    changes = {**changes, "tuning": replace(config.tuning, **changes.get("tuning", {}))}
    config = replace(config, **changes)
    data = options.load(config)
    whole = run(config, tmp_path / "whole", data)
    with pytest.raises(Interrupted):
        run(config, tmp_path / "cut", data, should_stop=stop_after(7))
    run(config, tmp_path / "cut", data)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    assert without_times(tmp_path / "cut") == without_times(tmp_path / "whole")
    task = Tuning(config, data)
    RunFolder(tmp_path / "cut").load_model(task.model)
    assert task.evaluate().result == pytest.approx(whole.result, rel=1e-3)
    if config.tuning.lora_rank:
        assert all("lora" in name for name in saved_tensors(task.model))
    if config.prior_scores:
        assert whole.num_forward == 42
        assert RunFolder(tmp_path / "cut").metrics()[0].num_kept < 42
        assert whole.cost == whole.num_trained + 14


def test_arms_of_equal_cost_cost_the_same(config, tmp_path):
    """Fewer epochs of a run with a first look are given what that cost, to within a batch."""
    config = replace(
        config, prior_scores="pass", warmup_epochs=0, tuning=replace(config.tuning, num_generated=0)
    )
    data, variant = options.load(config), Variant("infobatch")
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


def test_the_tokenizer_is_the_same_for_the_same_texts(config):
    first, second = options.load(config), options.load(config)
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    text = "Ünïcode, and\n\nwhat was never seen"
    assert first.tokenizer.decode(first.tokenizer(text)["input_ids"]) == text


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


def test_a_model_from_a_folder(config, tmp_path):
    task = task_of(config)
    task.model.save_pretrained(tmp_path)
    named = replace(config, model=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"without its tokenizer .* save both there"):
        check_config(named)
    task.data.tokenizer.save_pretrained(tmp_path)
    check_config(named)
    other = task_of(named)
    batch = task.feed.first(8)
    assert torch.equal(task.losses(batch, np.arange(8)), other.losses(batch, np.arange(8)))


def test_bad_rows_are_refused_or_left_out_and_counted(config, tmp_path):
    made = rows(12, 0)
    made[3]["output"] = "  "
    made[8]["input"] = "word " * 400
    (tmp_path / "train.json").write_text(json.dumps(made))
    (tmp_path / "test.json").write_text(json.dumps(rows(4, 1)))
    config = replace(config, data_dir=tmp_path)
    with pytest.raises(
        ValueError, match=r"row 3 \(from 0\) of train\.json: the output is empty .*--tuning\.skip-bad"
    ):
        options.load(config)
    made[3]["output"] = "0"
    (tmp_path / "train.json").write_text(json.dumps(made))
    with pytest.raises(
        ValueError,
        match=r"row 8 \(from 0\) of train\.json: the prompt alone fills --tuning\.max-length 192",
    ):
        options.load(config)
    data = options.load(replace(config, tuning=replace(config.tuning, skip_bad=True)))
    assert data.notes == (
        "1 of 12 training rows are left out: the prompt alone fills --tuning.max-length 192",
    )
    assert (len(data.train), len(data.test)) == (11, 4)


def test_without_a_test_split_a_tenth_is_held_out(config, tmp_path):
    (tmp_path / "alpaca.json").write_text(json.dumps(rows(42, 0)))
    data = options.load(replace(config, data_dir=tmp_path))
    assert (len(data.train), len(data.test)) == (38, 4)
    places = {example.row.place for example in (*data.train, *data.test)}
    assert len(places) == 42


def test_answers_are_cut_off_at_the_longest(config):
    config = replace(config, tuning=replace(config.tuning, max_length=128))
    data = options.load(config)
    assert max(len(example.tokens) for example in data.train) <= 128


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
        ({"policy": "el2n"}, "goes by scores of a classifier, and --task is tuning"),
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


def test_what_depends_on_the_data_is_refused_before_training(config, tmp_path):
    with pytest.raises(ValueError, match=r"max-length is 4,096, but llama-tiny takes 2,048 tokens"):
        options.load(replace(config, tuning=replace(config.tuning, max_length=4096)))
    np.savez(tmp_path / "scores.npz", last_loss=np.ones(7, np.float32))
    given = replace(config, prior_scores=str(tmp_path / "scores.npz"), warmup_epochs=0)
    check_config(given)
    with pytest.raises(
        ValueError, match=r"scores of .*scores\.npz have shape \(7,\), and .* 42 samples"
    ):
        check_run(given, options.load(given))
    with pytest.raises(FileNotFoundError, match="no such file; give pass, or the scores"):
        check_config(replace(given, prior_scores="nowhere.npz"))


def test_adapters_need_linear_layers():
    pytest.importorskip("peft")
    with pytest.raises(ValueError, match="Embedding has no linear layers to put adapters beside"):
        language.with_adapters(torch.nn.Embedding(3, 4), 2, 16)


def test_bad_files_are_refused_by_name(config, tmp_path):
    path = tmp_path / "train.jsonl"
    config = replace(config, data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="no parquet, JSON or JSON lines of instructions in"):
        options.load(config)
    for text, message in [
        ('{"instruction": "x", "answer": "y"}', r"columns instruction, answer, but no 'output'"),
        (
            '{"instruction": "x", "output": 3}',
            r"row 0 \(from 0\) of train\.jsonl has the output 3; it must be text",
        ),
        ("[1, 2", r"train\.jsonl cannot be read"),
        ("[1, 2]", "holds no list of objects"),
        ("", "holds no rows"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            options.load(config)


def test_a_damaged_checkpoint_is_passed_over(config, tmp_path):
    data = options.load(config)
    with pytest.raises(Interrupted):
        run(config, tmp_path, data, should_stop=stop_after(3))
    half = tmp_path / "trainer" / "checkpoint-9"
    half.mkdir()
    (half / "trainer_state.json").write_text('{"glob')
    assert run(config, tmp_path, data).num_steps == 21


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
