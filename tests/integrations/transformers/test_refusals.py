"""What the Trainer offers that does not go together with pruning."""

from functools import partial

import pytest
import torch

from helpers.language import (
    causal_model,
    classifier,
    encoder_decoder,
    labelled_sentences,
    mixture_of_experts,
    old_masked_model,
    pad_labelled,
    reversals,
    sentences,
)
from infobatch import NoiseBudget, Sharded
from infobatch.policies import IES

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from accelerate import Accelerator
from transformers import Trainer, TrainingArguments

from helpers.trainer import trainer
from infobatch.integrations.transformers import PruningMixin, PruningTrainer

pytestmark = pytest.mark.integrations


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
        ({"layout": Sharded()}, r"the layout Sharded\(.*\): checkpoints of the Trainer hold .* alone"),
        ({"normalizer": "weights"}, "num_items_in_batch.*leave it at 'batch'"),
        ({"policy": IES()}, "losses of all samples, and the Trainer does not fetch"),
    ],
)
def test_options_that_are_the_trainers(pruning, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, pruning=pruning)


@pytest.mark.parametrize("pruning", [True, "noise-budget", NoiseBudget()])
def test_what_is_no_mapping_of_options(pruning, tmp_path):
    with pytest.raises(TypeError, match=r'; give options: pruning=\{"policy": NoiseBudget\('):
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


def test_a_model_without_logits_is_refused(tmp_path):
    from transformers.modeling_outputs import CausalLMOutput

    class Fused(type(causal_model())):
        def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
            kwargs = {**kwargs, "attention_mask": attention_mask, "labels": labels}
            return CausalLMOutput(loss=super().forward(input_ids, **kwargs).loss)

    model = Fused(causal_model().config)
    with pytest.raises(ValueError, match=r"without logits.*Liger"):
        trainer(tmp_path, model=model).train()


class OwnTerm(type(causal_model())):
    """A model whose loss has one more term."""

    term = 0.0

    def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
        kwargs = {**kwargs, "attention_mask": attention_mask, "labels": labels}
        outputs = super().forward(input_ids, **kwargs)
        if outputs.loss is not None:
            outputs.loss = outputs.loss + self.term * outputs.logits.logsumexp(-1).square().mean()
        return outputs


@pytest.mark.parametrize("term", [1.0, 1e-3])
def test_a_model_with_a_loss_of_its_own_is_refused_unless_it_is_given(term, tmp_path):
    """Also where it is the cross-entropy but for a small term."""

    def model():
        torch.manual_seed(1)
        made = OwnTerm(causal_model().config)
        made.term = term
        return made

    with pytest.raises(ValueError, match=r"OwnTerm makes a loss of.*Override sample_losses"):
        trainer(tmp_path, model=model()).train()

    class Own(PruningTrainer):
        def sample_losses(self, outputs, labels):
            losses, counts = super().sample_losses(outputs, labels)
            return losses + term * outputs.logits.logsumexp(-1).square().mean(1), counts

    trainer(tmp_path, Own, model()).train()


def test_a_routers_loss_that_counts_otherwise_than_the_model_says_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(PruningMixin.__module__ + ".router_coefficient", lambda model: 0.1)
    with pytest.raises(ValueError, match=r"makes a loss of .* \(.* is its routers'\) of the"):
        trainer(tmp_path, model=mixture_of_experts()).train()


def test_a_loss_in_half_precision_is_no_loss_of_its_own(tmp_path):
    data = sentences(16, masked=True)
    trainer(tmp_path, model=old_masked_model().bfloat16(), data=data, num_train_epochs=1).train()


def test_a_model_that_needs_labels_is_refused(tmp_path):
    class Needs(type(causal_model())):
        def forward(self, input_ids, labels, attention_mask=None, **kwargs):
            return super().forward(input_ids, attention_mask=attention_mask, labels=labels, **kwargs)

    with pytest.raises(ValueError, match=r"Needs does not run without labels \(.*'labels'\).*optional"):
        trainer(tmp_path, model=Needs(causal_model().config)).train()


def test_a_decoder_that_is_fed_otherwise_without_labels_is_refused(tmp_path, monkeypatch):
    model = encoder_decoder()
    monkeypatch.delattr(type(model), "prepare_decoder_input_ids_from_labels")
    with pytest.raises(ValueError, match=r"makes other logits without labels .* \(decoder_input_ids\)"):
        trainer(tmp_path, model=model, data=reversals(16)).train()


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


class OwnLoss(PruningTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


class LossWithin(Trainer):
    compute_loss = OwnLoss.compute_loss


class Mixed(PruningMixin, LossWithin):
    pass


class OwnLoader(PruningTrainer):
    get_train_dataloader = Trainer.get_train_dataloader


@pytest.mark.parametrize(("kind", "owner"), [(OwnLoss, "OwnLoss"), (Mixed, "LossWithin")])
def test_a_loss_that_is_not_weighted_is_refused_at_the_first_step(kind, owner, tmp_path):
    made = trainer(tmp_path, kind, pruning={})
    with pytest.raises(RuntimeError, match=f"compute_loss of {owner} .* sample_losses"):
        made.train()
    assert made.state.global_step == 0


def test_a_loader_of_ones_own_is_refused_at_the_first_step(tmp_path):
    with pytest.raises(RuntimeError, match="get_train_dataloader of OwnLoader makes a loader"):
        trainer(tmp_path, OwnLoader, pruning={}).train()


def test_a_training_set_without_samples_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the dataset is empty; there is nothing to select from"):
        trainer(tmp_path, data=[], pruning={}).train()
