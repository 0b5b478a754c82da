"""The Trainer with pruning: the stock one's numbers where nothing is pruned, else a plain loop's."""

import functools
import types
from functools import partial

import pytest
import torch

from helpers.language import (
    causal_model,
    classifier,
    encoder_decoder,
    labelled_sentences,
    masked_model,
    mixture_of_experts,
    old_masked_model,
    pad,
    pad_labelled,
    parameters,
    reversals,
    sentences,
    train_plainly,
)
from infobatch import DynamicPruner, InfoBatch, NoiseBudget, output_gradient_norms

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import Trainer, TrainerCallback

from helpers.trainer import (
    NOTHING,
    SIZES,
    SMALLER,
    VARYING,
    Stock,
    Watched,
    batch_counts,
    trainer,
)
from infobatch.integrations.transformers import PruningMixin

pytestmark = pytest.mark.integrations

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


@pytest.mark.parametrize("kind", ["Bart", "T5"])
def test_a_decoder_has_the_inputs_that_the_model_makes_of_labels(kind, tmp_path):
    """Without them BART decodes what it encodes, and T5 nothing."""
    stock, ours = (
        trainer(tmp_path, which, encoder_decoder(kind), reversals(), pruning=pruning)
        for which, pruning in [(Stock, None), (Watched, NOTHING)]
    )
    before = parameters(ours.model)
    stock.train()
    ours.train()
    assert (parameters(stock.model) - parameters(ours.model)).abs().max() < 1e-6
    assert (parameters(ours.model) - before).abs().max() > 1e-2


class Tuples(torch.nn.Module):
    """A model of one's own that gives its loss, if it makes one, and its logits."""

    def __init__(self):
        super().__init__()
        self.inner = classifier()

    def forward(self, input_ids, attention_mask=None, labels=None):
        outputs = self.inner(input_ids, attention_mask=attention_mask, labels=labels)
        return (outputs.logits,) if labels is None else (outputs.loss, outputs.logits)


class Bare(Tuples):
    def forward(self, input_ids, attention_mask=None, labels=None):
        outputs = super().forward(input_ids, attention_mask, labels)
        return outputs if len(outputs) == 2 else outputs[0]


@pytest.mark.parametrize("model", [Tuples, Bare])
def test_a_model_may_give_tuples(model, tmp_path):
    ends = []
    for kind in (Stock, Watched):
        made = trainer(tmp_path, kind, model(), labelled_sentences(), pad_labelled, num_train_epochs=1)
        made.train()
        ends.append(parameters(made.model))
    assert (ends[0] - ends[1]).abs().max() < 1e-6


def test_a_causal_model_of_ones_own_kind_is_one(tmp_path):
    class Mine(type(causal_model())):
        pass

    ends = []
    for model in (causal_model(), Mine(causal_model().config)):
        model.load_state_dict(causal_model().state_dict())
        made = trainer(tmp_path, model=model, pruning=VARYING)
        made.train()
        ends.append(parameters(made.model))
    assert torch.equal(*ends)


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


class Scaled(Watched):
    loss_is_scaled_for_ga = True


class Unscaled(Watched):
    loss_is_scaled_for_ga = False


@pytest.mark.parametrize("task", ["causal", "classification"])
def test_how_a_trainers_own_loss_is_accumulated_says_nothing_of_ours(task, tmp_path):
    model, data, collate = TASKS[task]
    ends = []
    for kind, own in ((Watched, None), (Scaled, True), (Unscaled, False)):
        accumulated = {"gradient_accumulation_steps": 4, "num_train_epochs": 1}
        made = trainer(tmp_path, kind, model(), data(), collate, NOTHING, **accumulated)
        made.train()
        ends.append(parameters(made.model))
        assert made.loss_is_scaled_for_ga is own
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("length", [{"num_train_epochs": 4}, {"max_steps": 21}], ids=str)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("drop_last", [False, True])
def test_with_smaller_batches_steps_and_schedule_are_the_stock_trainers(
    accumulated, length, task, drop_last, tmp_path
):
    model, data, collate = TASKS[task]
    stock, ours = (
        trainer(
            tmp_path,
            kind,
            model(),
            data(),
            collate,
            pruning,
            gradient_accumulation_steps=accumulated,
            dataloader_drop_last=drop_last,
            warmup_steps=3,
            **length,
        )
        for kind, pruning in [(Stock, None), (Watched, SMALLER)]
    )
    stock.train()
    ours.train()
    assert ours.state.global_step == stock.state.global_step == ours.state.max_steps
    assert ours.notes.rates == pytest.approx(stock.notes.rates)
    if "max_steps" not in length:  # it ends an epoch of ours, not one of the stock Trainer's
        assert ours.notes.positions == stock.notes.positions
    assert ours.lr_scheduler.get_last_lr() == pytest.approx(stock.lr_scheduler.get_last_lr())
    assert ours.pruner.report().saved > 0
    sizes = {len(batch) for batch in ours.seen[13:26]}
    assert max(sizes) - min(sizes) <= 1 < max(sizes) < 4


class ByLength(Watched):
    """Losses that a sample's length decides: short ones are kept more often."""

    def sample_losses(self, outputs, labels):
        losses, counts = super().sample_losses(outputs, labels)
        return 0 * losses + 9.0 / counts.clamp(min=1) ** 2, counts

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.__dict__.setdefault("losses", []).append(float(loss))
        return loss


@pytest.mark.parametrize("batch_size", [48, 8])
def test_a_smaller_batch_estimates_the_loss_of_full_data(batch_size, tmp_path):
    """Items without weights would make the loss too large: those kept are short.

    Those of the batch itself, with weights, would do so where batches are small.
    """
    data = sentences(96)
    pruning = {"policy": InfoBatch(0.7), "delta": 1, "shrink": "batches"}
    ours = trainer(
        tmp_path,
        ByLength,
        data=data,
        pruning=pruning,
        num_train_epochs=26,
        per_device_train_batch_size=batch_size,
        learning_rate=0.0,
    )
    ours.train()
    counts = torch.tensor([float(sample["labels"][1:].ne(-100).sum()) for sample in data])
    items = torch.tensor([float(sample["labels"].ne(-100).sum()) for sample in data])
    full = float((9 / counts.clamp(min=1) ** 2 * counts).sum() / items.sum())
    losses = torch.tensor(ours.losses[96 // batch_size :])
    assert len(losses) == 25 * 96 // batch_size
    assert float(losses.mean()) == pytest.approx(full, rel=0.03)
    weights = ours.pruner.selection.weights
    kept = weights > 0
    weights = weights / weights[kept].mean()
    naive = float((weights * 9 / counts.clamp(min=1) ** 2 * counts).sum() / items[kept].sum())
    assert naive > 1.1 * full


def test_a_budgets_norms_grow_with_the_root_of_the_items(tmp_path):
    data = sentences()
    ours = trainer(tmp_path, data=data, pruning={"policy": NoiseBudget()}, num_train_epochs=1)
    ours.train()
    counts = torch.tensor([float(sample["labels"][1:].ne(-100).sum()) for sample in data])
    losses = ours.pruner.scores["last_loss"]
    assert len(counts[counts > 0].unique()) > 2
    expected = (-torch.expm1(-losses) * counts.sqrt())[counts > 0]
    assert torch.allclose(ours.pruner.scores.last_norms[counts > 0], expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_budgets_norms_of_classes_are_those_in_the_logits(smoothing, tmp_path):
    norms = {}

    class Noting(Watched):
        def sample_losses(self, outputs, labels):
            losses, counts = super().sample_losses(outputs, labels)
            if losses.requires_grad:
                given = output_gradient_norms(losses, outputs.logits)
                norms.update(zip(self._indices.tolist(), given, strict=True))
            return losses, counts

        _has_own_losses = False  # they are the Trainer's

    ours = trainer(
        tmp_path,
        Noting,
        classifier(),
        labelled_sentences(),
        pad_labelled,
        pruning={"policy": NoiseBudget()},
        num_train_epochs=1,
        label_smoothing_factor=smoothing,
    )
    ours.train()
    kept = ours.pruner.scores.last_norms
    assert len(norms) == len(kept)
    assert torch.allclose(kept, torch.stack([norms[index] for index in range(len(kept))]), atol=1e-6)


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


@pytest.mark.parametrize("pruning", [VARYING, SIZES, SMALLER], ids=["varying", "target", "smaller"])
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


def test_a_run_that_is_stopped_early_reports_what_it_trained(tmp_path):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 15

    ours = trainer(tmp_path, pruning=SIZES, num_train_epochs=4)
    ours.add_callback(Stop())
    metrics = ours.train().metrics
    assert ours.state.global_step == 15
    rate = metrics["train_samples_per_second"] * metrics["train_runtime"]
    assert rate == pytest.approx(40 + 5 * 4, rel=0.01)


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


@pytest.mark.parametrize("kind", ["Mixtral", "JetMoe"])
def test_a_mixture_of_experts_keeps_its_routers_loss(kind, tmp_path):
    """Whatever it calls the number that this is multiplied by."""
    stock = trainer(tmp_path, Stock, mixture_of_experts(kind), num_train_epochs=1)
    ours = trainer(tmp_path, model=mixture_of_experts(kind), pruning=NOTHING, num_train_epochs=1)
    stock.train()
    ours.train()
    assert (parameters(stock.model) - parameters(ours.model)).abs().max() < 1e-6


class Routed(Watched):
    """Notes the gradient of the router, which no data reaches, and what it is of its own loss alone."""

    def training_step(self, model, inputs, *args, **kwargs):
        alone = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
        loss = super().training_step(model, inputs, *args, **kwargs)
        gate = self.model.model.layers[0].mlp.gate.weight
        (own,) = torch.autograd.grad(self.model(**alone).aux_loss, gate)
        factor = self.model.config.router_aux_loss_coef * self.pruner.mean_weight
        self.__dict__.setdefault("pairs", []).append((gate.grad.clone(), factor * own))
        return loss


@pytest.mark.parametrize("pruning", [VARYING, SMALLER], ids=["steps", "batches"])
def test_a_routers_loss_counts_as_much_beside_the_others_in_pruned_epochs(pruning, tmp_path):
    ours = trainer(tmp_path, Routed, mixture_of_experts(), pruning=pruning, learning_rate=0.0)
    ours.train()
    assert (ours.pruner.mean_weight > 1.2) == (pruning is VARYING)
    for gradient, expected in ours.pairs:
        assert expected.norm() > 0
        assert (gradient - expected).norm() < 1e-5 * expected.norm()


class Twice(Trainer):
    """Takes the loss twice in a step, as adversarial training does; here of the same parameters."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        inputs = self._prepare_inputs(inputs)
        pair = []
        for _ in range(2):
            before = 0 if model.lm_head.weight.grad is None else model.lm_head.weight.grad.clone()
            loss = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
            self.accelerator.backward(loss)
            pair.append((loss.item(), float((model.lm_head.weight.grad - before).norm())))
        self.__dict__.setdefault("pairs", []).append(pair)
        return loss.detach()


class PrunedTwice(PruningMixin, Twice):
    pass


@pytest.mark.parametrize("pruning", [VARYING, SMALLER], ids=["steps", "batches"])
def test_each_loss_of_a_step_is_weighted_and_the_first_is_recorded(pruning, tmp_path):
    made = trainer(tmp_path, PrunedTwice, pruning=pruning, num_train_epochs=3, learning_rate=0.0)
    made.train()
    assert made.pruner.report().saved > 0
    for first, second in made.pairs:
        assert second == pytest.approx(first, rel=1e-5)
    assert made.pruner.scores["visits"].max() == 3


def test_a_compute_loss_may_call_ours_twice(tmp_path):
    """As R-Drop does."""

    class Both(Watched):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            one = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
            other = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
            return (one + other) / 2

    once, twice = (trainer(tmp_path, kind, pruning=VARYING) for kind in (Watched, Both))
    once.train()
    twice.train()
    assert (parameters(once.model) - parameters(twice.model)).abs().max() < 1e-6


def test_evaluation_after_an_interrupted_step_is_the_stock_trainers(tmp_path):
    made = trainer(tmp_path, pruning=VARYING)
    forward = made.model.forward

    def interrupted(*args, **kwargs):
        if made.state.global_step == 20:
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    made.model.forward = functools.wraps(forward)(interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.train()
    made.model.forward = forward
    visits, data = made.pruner.scores["visits"].sum(), sentences(20, seed=8)
    stock = trainer(tmp_path, Stock, made.model)
    assert made.evaluate(data)["eval_loss"] == stock.evaluate(data)["eval_loss"]
    assert made.pruner.scores["visits"].sum() == visits


def test_the_order_follows_the_seed_of_the_data(tmp_path):
    firsts = []
    for options in ({"seed": 1}, {"seed": 0, "data_seed": 1}, {"seed": 1, "data_seed": 0}):
        made = trainer(tmp_path, pruning=NOTHING, num_train_epochs=1, **options)
        made.train()
        firsts.append(made.seen[0])
    assert firsts[0] == firsts[1] != firsts[2]
    assert trainer(tmp_path, pruning={"seed": 5}, data_seed=1).pruner.seed == 5


def test_the_mixin_takes_any_trainer(tmp_path):
    class Mine(PruningMixin, Stock):
        pass

    made = trainer(tmp_path, Mine, pruning=VARYING)
    made.train()
    assert isinstance(made, Stock)
    assert made.pruner.report().saved > 0
    assert isinstance(made.compute_loss, types.MethodType)
