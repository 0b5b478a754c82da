"""The Trainer with pruning: the stock one's numbers where nothing is pruned, else a plain loop's."""

import subprocess
import sys
import types
from functools import partial

import numpy as np
import pytest
import torch

from infobatch import DynamicPruner, InfoBatch, NoPruning

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from accelerate import Accelerator
from tiny import (
    FullOrder,
    causal_model,
    classifier,
    labelled_sentences,
    masked_model,
    old_masked_model,
    pad,
    pad_labelled,
    parameters,
    sentences,
    train_plainly,
)
from transformers import Trainer, TrainerCallback, TrainingArguments

from infobatch.integrations.transformers import INDICES, STATE_FILE, PruningMixin, PruningTrainer
from infobatch.integrations.transformers.installed import check_version
from infobatch.policies import IES

pytestmark = pytest.mark.integrations

NOTHING = {"policy": NoPruning()}
VARYING = {"policy": InfoBatch(0.9), "warmup_epochs": 1, "delta": 1}
SIZES = {"policy": InfoBatch(0.9), "target": [10, 26, 34, 10]}  # 40, 24, 16, 40 of 50 samples


class Notes(TrainerCallback):
    """Learning rates, positions and left-over gradients, as a run goes on."""

    def __init__(self):
        self.rates, self.positions, self.left_over = [], [], []

    def on_epoch_begin(self, args, state, control, model=None, **kwargs):
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        self.left_over.append(any(bool(g.any()) for g in gradients))

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_step_end(self, args, state, control, **kwargs):
        self.positions.append(state.epoch)


class Watched(PruningTrainer):
    """Notes each batch's samples."""

    def training_step(self, model, inputs, *args, **kwargs):
        self.__dict__.setdefault("seen", []).append(inputs[INDICES].tolist())
        return super().training_step(model, inputs, *args, **kwargs)


class Stock(Trainer):
    """The stock Trainer, with the order of the pruner's epochs."""

    def _get_train_sampler(self, dataset=None):
        return FullOrder(len(self.train_dataset), self.args.seed)


def trainer(folder, kind=Watched, model=None, data=None, collate=pad, pruning=None, **arguments):
    arguments = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 3,
        "learning_rate": 0.1,
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "dataloader_pin_memory": False,
        **arguments,
    }
    options = {} if pruning is None else {"pruning": pruning}
    made = kind(
        model=causal_model() if model is None else model,
        args=TrainingArguments(output_dir=str(folder), **arguments),
        train_dataset=sentences() if data is None else data,
        data_collator=collate,
        callbacks=[notes := Notes()],
        **options,
    )
    made.notes = notes
    return made


def batch_counts(made):
    """Batches of each epoch, from the position after each update."""
    ends = np.array(made.notes.positions)
    return [int(((ends > epoch) & (ends <= epoch + 1)).sum()) for epoch in range(int(ends[-1]))]


TASKS = {
    "causal": (causal_model, sentences, pad),
    "masked": (masked_model, partial(sentences, masked=True), pad),
    "classification": (classifier, labelled_sentences, pad_labelled),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("accumulated", [1, 4])
def test_nothing_pruned_is_the_stock_trainer(task, smoothing, accumulated, tmp_path):
    if task == "classification" and accumulated > 1 and not smoothing:
        pytest.skip("the stock Trainer does not divide by what is accumulated: see the next test")
    model, data, collate = TASKS[task]
    runs = []
    for kind, pruning in [(Stock, None), (Watched, NOTHING)]:
        made = trainer(
            tmp_path,
            kind,
            model(),
            data(),
            collate,
            pruning,
            gradient_accumulation_steps=accumulated,
            label_smoothing_factor=smoothing,
            num_train_epochs=2,
            warmup_steps=2,
        )
        losses = made.train().training_loss
        runs.append((made, losses))
    (stock, stock_loss), (ours, our_loss) = runs
    assert (parameters(stock.model) - parameters(ours.model)).abs().max() < 1e-6
    assert our_loss == pytest.approx(stock_loss, rel=1e-6)
    assert ours.notes.rates == pytest.approx(stock.notes.rates)
    assert ours.notes.positions == stock.notes.positions
    assert ours.state.max_steps == stock.state.max_steps == ours.state.global_step


@pytest.mark.parametrize("task", ["old masked", "classification"])
def test_accumulating_is_a_larger_batch_whatever_the_models_own_loss(task, tmp_path):
    """These average over a batch only: the stock Trainer's gradient is four times as large here."""
    if task == "old masked":
        model, data, collate = old_masked_model, sentences(48, masked=True), pad
    else:
        model, data, collate = classifier, labelled_sentences(48), pad_labelled
    large = {"per_device_train_batch_size": 12, "num_train_epochs": 1}
    accumulated = {**large, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 4}
    ends = []
    for kind, size in [(Stock, large), (Watched, large), (Watched, accumulated), (Stock, accumulated)]:
        made = trainer(tmp_path, kind, model(), data, collate, **size)
        made.train()
        ends.append(parameters(made.model))
    assert (ends[0] - ends[1]).abs().max() < 1e-6
    assert (ends[0] - ends[2]).abs().max() < 1e-6
    assert (ends[0] - ends[3]).abs().max() > 1e-3


@pytest.mark.parametrize("arguments", [{"num_train_epochs": 2.3}, {"max_steps": 17}])
def test_fractional_lengths_are_the_stock_trainers(arguments, tmp_path):
    arguments = {"gradient_accumulation_steps": 3, **arguments}
    stock = trainer(tmp_path, Stock, **arguments)
    ours = trainer(tmp_path, pruning=NOTHING, **arguments)
    stock.train()
    ours.train()
    assert ours.state.global_step == stock.state.global_step
    assert (parameters(stock.model) - parameters(ours.model)).abs().max() < 1e-6
    assert ours.notes.rates == pytest.approx(stock.notes.rates)


@pytest.mark.parametrize("pruning", [VARYING, SIZES], ids=["varying", "target"])
@pytest.mark.parametrize(("accumulated", "smoothing"), [(1, 0.0), (3, 0.1)])
def test_pruned_training_is_a_plain_loops(pruning, accumulated, smoothing, tmp_path):
    ours = trainer(
        tmp_path,
        pruning=pruning,
        gradient_accumulation_steps=accumulated,
        label_smoothing_factor=smoothing,
        num_train_epochs=4,
    )
    ours.train()
    pruner = DynamicPruner(sentences(), num_epochs=4, seed=42, **pruning)
    model = causal_model()
    rates, seen, last = train_plainly(pruner, model, accumulated, smoothing)
    assert ours.seen == seen
    assert torch.equal(ours.pruner.selection.weights, pruner.selection.weights)
    assert ours.notes.rates == pytest.approx(rates)
    assert ours.lr_scheduler.get_last_lr()[0] == last == 0
    assert (parameters(model) - parameters(ours.model)).abs().max() < 1e-6
    scores, expected = ours.pruner.scores["last_loss"], pruner.scores["last_loss"]
    torch.testing.assert_close(scores, expected, equal_nan=True)
    assert scores.isnan().sum() == sum(index % 11 == 5 for index in range(50)), "no score without labels"
    assert 0 < ours.pruner.report().saved < 1


@pytest.mark.parametrize(("accumulated", "workers"), [(1, 0), (4, 0), (4, 2)])
def test_epochs_of_any_length(accumulated, workers, tmp_path):
    ours = trainer(
        tmp_path,
        pruning=SIZES,
        gradient_accumulation_steps=accumulated,
        num_train_epochs=4,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
    )
    output = ours.train()
    batches = [10, 6, 4, 10]
    updates = [-(-number // accumulated) for number in batches]
    assert batch_counts(ours) == updates
    assert len(ours.seen) == sum(batches)
    assert ours.state.epoch == 4
    assert ours.state.max_steps == ours.state.global_step == sum(updates)
    assert ours.lr_scheduler.get_last_lr()[0] == 0
    assert not any(ours.notes.left_over)
    rate = output.metrics["train_samples_per_second"] * output.metrics["train_runtime"]
    assert rate == pytest.approx(120, rel=0.01)


def test_the_stock_trainer_with_a_pruners_sampler_cuts_epochs_short(tmp_path):
    """Why the epoch's length is set anew: 4, 6, 4, 10 batches become 4, 4, 4, 4."""

    class Naive(Trainer):
        seen = 0

        def _get_train_sampler(self, dataset=None):
            return Lengths()

        def training_step(self, *args, **kwargs):
            self.seen += 1
            return super().training_step(*args, **kwargs)

    class Lengths(torch.utils.data.Sampler):
        epoch = 0

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __len__(self):
            return [16, 24, 16, 40][self.epoch]

        def __iter__(self):
            return iter(range(len(self)))

    naive = trainer(tmp_path, Naive, num_train_epochs=4)
    naive.train()
    assert naive.seen == 16
    pruning = {**SIZES, "target": [34, 26, 34, 10]}
    ours = trainer(tmp_path, pruning=pruning, num_train_epochs=4)
    ours.train()
    assert batch_counts(ours) == [4, 6, 4, 10]


def test_max_steps_counts_steps_of_full_data(tmp_path):
    ours = trainer(tmp_path, pruning={**VARYING, "delta": 0.5}, max_steps=50)
    ours.train()
    assert ours.pruner.num_epochs == 4
    assert ours.state.global_step < 50
    assert ours.state.max_steps == ours.state.global_step
    assert ours.lr_scheduler.get_last_lr()[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"gradient_accumulation_steps": 3},
        {"gradient_accumulation_steps": 2, "dataloader_num_workers": 2},
        {"dataloader_drop_last": True},
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one(arguments, tmp_path):
    arguments = {
        "num_train_epochs": 3,
        "save_strategy": "steps",
        "save_steps": 1,
        "optim": "adamw_torch",
        "learning_rate": 0.01,
        **arguments,
    }
    make = partial(trainer, tmp_path, pruning=VARYING, **arguments)
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


def test_a_checkpoint_without_a_pruner_is_refused(tmp_path):
    stock = trainer(tmp_path, Stock, save_strategy="epoch")
    stock.train()
    with pytest.raises(
        FileNotFoundError, match=f"checkpoint-13 has no {STATE_FILE}.*saved without pruning"
    ):
        trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-13"))


def test_another_batch_size_is_refused_where_it_does_not_fit(tmp_path):
    trainer(tmp_path, save_strategy="steps", save_steps=5).train()
    resumed = trainer(tmp_path, per_device_train_batch_size=8)
    with pytest.raises(ValueError, match="saved 20 samples into epoch 0, no multiple of the 8"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))


def test_evaluation_is_the_stock_trainers(tmp_path):
    data = sentences(20, seed=8)
    for smoothing in (0.0, 0.1):
        stock = trainer(tmp_path, Stock, label_smoothing_factor=smoothing)
        ours = trainer(tmp_path, label_smoothing_factor=smoothing)
        expected, got = stock.evaluate(data)["eval_loss"], ours.evaluate(data)["eval_loss"]
        assert got == expected
        assert ours.pruner.report().num_recorded == 0
    ours.train()
    before = ours.pruner.report().num_recorded
    ours.evaluate(data)
    assert ours.pruner.report().num_recorded == before


def test_evaluating_during_training_changes_nothing(tmp_path):
    kind = partial(Watched, eval_dataset=sentences(20, seed=8))
    runs = [
        trainer(tmp_path, kind, pruning=VARYING),
        trainer(tmp_path, kind, pruning=VARYING, eval_strategy="steps", eval_steps=3),
    ]
    for made in runs:
        made.train()
    assert torch.equal(*(parameters(made.model) for made in runs))


def test_unused_columns_reach_neither_collator_nor_model(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [
        {"input_ids": s["input_ids"].tolist(), "labels": s["labels"].tolist(), "text": "unused"}
        for s in sentences()
    ]

    def strict(samples):
        assert all("text" not in sample for sample in samples)
        return pad([{name: torch.tensor(row) for name, row in s.items()} for s in samples])

    expected = trainer(tmp_path, pruning=VARYING)
    expected.train()
    for data in (datasets.Dataset.from_list(rows), rows):
        made = trainer(tmp_path, data=data, collate=strict, pruning=VARYING)
        made.train()
        assert torch.equal(parameters(made.model), parameters(expected.model))


def test_an_index_column_would_be_removed(tmp_path):
    """Why the index is added after the collator: the stock loader drops a column of indices."""
    data = [{**sample, "index": index} for index, sample in enumerate(sentences())]
    made = trainer(tmp_path, Stock, data=data, collate=lambda samples: samples)
    assert all("index" not in sample for sample in next(iter(made.get_train_dataloader())))
    ours = trainer(tmp_path, data=data)
    assert len(next(iter(ours.get_train_dataloader()))[INDICES]) == 4


def test_training_again_begins_anew(tmp_path):
    made = trainer(tmp_path, pruning=VARYING)
    made.train()
    first = made.pruner
    made.train()
    assert made.pruner is not first
    assert made.pruner.scores["visits"].max() == 3
    assert made.lr_scheduler.get_last_lr()[0] == 0


def test_own_scheduler_and_metric_schedulers(tmp_path):
    model = causal_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=52)
    made = trainer(tmp_path, model=model, pruning=SIZES, num_train_epochs=4)
    made.optimizer, made.lr_scheduler = optimizer, schedule
    made.train()
    assert schedule.last_epoch == 52
    kind = partial(Watched, eval_dataset=sentences(8))
    arguments = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"}
    plateau = trainer(tmp_path, kind, pruning=VARYING, **arguments)
    plateau.train()
    assert isinstance(plateau.lr_scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)


def test_a_mixture_of_experts_keeps_its_routers_loss(tmp_path):
    from transformers import MixtralConfig, MixtralForCausalLM

    def model():
        torch.manual_seed(1)
        return MixtralForCausalLM(
            MixtralConfig(
                vocab_size=29,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                num_local_experts=2,
                output_router_logits=True,
                router_aux_loss_coef=0.5,
                max_position_embeddings=16,
            )
        )

    stock = trainer(tmp_path, Stock, model(), num_train_epochs=1)
    ours = trainer(tmp_path, model=model(), pruning=NOTHING, num_train_epochs=1)
    stock.train()
    ours.train()
    assert (parameters(stock.model) - parameters(ours.model)).abs().max() < 1e-6


# -- What is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"auto_find_batch_size": True},
            "auto_find_batch_size is True.*set per_device_train_batch",
        ),
        ({"use_liger_kernel": True}, "use_liger_kernel is True.*never makes the logits"),
        ({"ignore_data_skip": True}, "ignore_data_skip is True.*leave it off"),
        ({"train_sampling_strategy": "group_by_length"}, "is 'group_by_length': the order of an epoch"),
        ({"dataloader_in_order": False}, "dataloader_in_order is False.*leave it on"),
        ({"accelerator_config": {"split_batches": True}}, "split_batches=True.*leave it out"),
    ],
)
def test_arguments_that_do_not_go_together_with_pruning(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        (
            {"num_epochs": 3},
            "pruning is given num_epochs=3; the Trainer takes it from TrainingArguments",
        ),
        ({"normalizer": "weights"}, "num_items_in_batch.*leave it at 'batch'"),
        ({"policy": IES()}, "losses of all samples, and the Trainer does not fetch"),
    ],
)
def test_options_that_are_the_trainers(pruning, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, pruning=pruning)


def test_a_loss_of_the_whole_batch_is_refused(tmp_path):
    kind = partial(PruningTrainer, compute_loss_func=lambda *args, **kwargs: None)
    with pytest.raises(ValueError, match=r"compute_loss_func gives one loss.*override sample_losses"):
        trainer(tmp_path, kind)


def test_several_devices_in_one_process_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    with pytest.raises(ValueError, match=r"n_gpu is 2.*torchrun"):
        trainer(tmp_path)


def test_accumulation_that_is_divided_by_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Accelerator, "gradient_accumulation_steps", 3)
    with pytest.raises(ValueError, match=r"steps is 3, by which .* a second time; install 5.6 or later"):
        trainer(tmp_path, gradient_accumulation_steps=3)


@pytest.mark.parametrize("kind", ["tp", "cp", "sp"])
def test_model_parallel_processes_are_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, f"get_{kind}_size", lambda self: 2)
    with pytest.raises(ValueError, match=f"'{kind}': 2.*data parallelism alone"):
        trainer(tmp_path)


def test_padding_free_batches_are_refused(tmp_path):
    from transformers import DataCollatorWithFlattening

    made = trainer(tmp_path, collate=DataCollatorWithFlattening())
    with pytest.raises(ValueError, match="1 rows of labels for 4 samples: packing or padding-free"):
        made.train()


def test_a_batch_without_labels_is_refused(tmp_path):
    def unlabelled(samples):
        batch = pad(samples)
        del batch["labels"]
        return batch

    with pytest.raises(ValueError, match=r"no 'labels'.*name the column so"):
        trainer(tmp_path, collate=unlabelled).train()


def test_a_collator_must_make_a_mapping(tmp_path):
    with pytest.raises(TypeError, match="made a list; the Trainer needs a mapping"):
        trainer(tmp_path, collate=list).train()


def test_a_model_without_logits_is_refused(tmp_path):
    from transformers.modeling_outputs import CausalLMOutput

    class Fused(type(causal_model())):
        def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
            kwargs = {**kwargs, "attention_mask": attention_mask, "labels": labels}
            return CausalLMOutput(loss=super().forward(input_ids, **kwargs).loss)

    model = Fused(causal_model().config)
    with pytest.raises(ValueError, match=r"without logits.*Liger"):
        trainer(tmp_path, model=model).train()


def test_a_model_with_a_loss_of_its_own_is_refused_unless_it_is_given(tmp_path):
    class Doubled(type(causal_model())):
        def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
            kwargs = {**kwargs, "attention_mask": attention_mask, "labels": labels}
            outputs = super().forward(input_ids, **kwargs)
            if outputs.loss is not None:
                outputs.loss = 2 * outputs.loss
            return outputs

    def model():
        torch.manual_seed(1)
        return Doubled(causal_model().config)

    with pytest.raises(ValueError, match=r"Doubled makes a loss of.*Override sample_losses"):
        trainer(tmp_path, model=model()).train()

    class Own(PruningTrainer):
        def sample_losses(self, outputs, labels):
            losses, counts = super().sample_losses(outputs, labels)
            return 2 * losses, counts

    trainer(tmp_path, Own, model()).train()


def test_labels_that_are_not_classes_are_refused(tmp_path):
    data = labelled_sentences()
    for sample in data:
        sample["labels"] = sample["labels"].float()
    made = trainer(tmp_path, model=classifier(), data=data, collate=pad_labelled)
    with pytest.raises(ValueError, match=r"dtype torch.float32, as regression and multi-label"):
        made.train()


def test_streams_are_refused(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(sentences())

    with pytest.raises(TypeError, match="not a map-style dataset"):
        trainer(tmp_path, data=Stream(), max_steps=5).train()


def test_an_older_transformers_is_refused():
    older = type("Trainer", (), {"_inner_training_loop": None})
    with pytest.raises(
        ImportError, match=r"transformers is 4.57.1, whose Trainer has no _run_epoch.*5.4"
    ):
        check_version(older, "4.57.1")


def test_without_transformers_the_extra_is_named():
    program = (
        "import sys; sys.modules['transformers'] = None; import infobatch.integrations.transformers"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'infobatch[transformers]'" in done.stderr


def test_the_mixin_takes_any_trainer(tmp_path):
    class Mine(PruningMixin, Stock):
        pass

    made = trainer(tmp_path, Mine, pruning=VARYING)
    made.train()
    assert isinstance(made, Stock)
    assert made.pruner.report().saved > 0
    assert isinstance(made.compute_loss, types.MethodType)
