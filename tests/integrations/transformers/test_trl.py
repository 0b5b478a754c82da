"""TRL's SFTTrainer with pruning."""

import pytest
import torch

from infobatch import InfoBatch

pytest.importorskip("trl")
pytest.importorskip("peft")
pytest.importorskip("datasets")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import datasets
import peft
import trl
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from helpers.language import VOCABULARY, FullOrder, causal_model, mixture_of_experts, pad, parameters
from helpers.trainer import NOTHING, SMALLER, VARYING, Notes, trainer
from infobatch.integrations.transformers import PruningMixin

pytestmark = [
    pytest.mark.integrations,
    # TRL and PEFT still call it by its old name.
    pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing.*` is deprecated:FutureWarning"),
]

EPOCH = "infobatch/epoch"
WORDS = ["<pad>", "<eos>", *(f"w{i}" for i in range(VOCABULARY - 2))]


class PruningSFTTrainer(PruningMixin, trl.SFTTrainer):
    pass


class StockSFTTrainer(trl.SFTTrainer):
    """The stock one, with the order of the pruner's epochs."""

    def _get_train_sampler(self, dataset=None):
        return FullOrder(len(self.train_dataset), self.args.seed)


def tokenizer():
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")


def texts(size=50):
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(3, 10, (size,), generator=generator).tolist()
    draw = (torch.randint(2, VOCABULARY, (length,), generator=generator) for length in lengths)
    return datasets.Dataset.from_dict({"text": [" ".join(WORDS[i] for i in drawn) for drawn in draw]})


def sft_trainer(
    folder, kind=PruningSFTTrainer, pruning=None, peft_config=None, model=causal_model, **arguments
):
    arguments = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 3,
        "learning_rate": 0.1,
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "dataloader_pin_memory": False,
        **arguments,
    }
    made = kind(
        model=model(),
        args=trl.SFTConfig(output_dir=str(folder), **arguments),
        train_dataset=texts(),
        processing_class=tokenizer(),
        callbacks=[notes := Notes()],
        peft_config=peft_config,
        **{} if pruning is None else {"pruning": pruning},
    )
    made.notes = notes
    return made


@pytest.mark.parametrize("accumulated", [1, 3])
def test_nothing_pruned_is_the_stock_trainer(accumulated, tmp_path):
    arguments = {"gradient_accumulation_steps": accumulated, "num_train_epochs": 2}
    stock = sft_trainer(tmp_path, StockSFTTrainer, **arguments)
    ours = sft_trainer(tmp_path, pruning=NOTHING, **arguments)
    expected, got = stock.train().training_loss, ours.train().training_loss
    assert (parameters(stock.model) - parameters(ours.model)).abs().max() < 1e-6
    assert got == pytest.approx(expected, rel=1e-6)
    assert ours.notes.rates == pytest.approx(stock.notes.rates)


def test_an_epochs_log_takes_nothing_from_the_trainers_own_metrics(tmp_path):
    logs = []
    for kind, pruning in [(StockSFTTrainer, None), (PruningSFTTrainer, NOTHING)]:
        options = {"logging_strategy": "steps", "logging_steps": 10, "num_train_epochs": 2}
        made = sft_trainer(tmp_path, kind, pruning, **options)
        made.train()
        logs.append([log["mean_token_accuracy"] for log in made.state.log_history if "loss" in log])
        assert all("mean_token_accuracy" not in log for log in made.state.log_history if EPOCH in log)
    assert len(logs[0]) == 2
    assert logs[1] == pytest.approx(logs[0])


@pytest.mark.parametrize("accumulated", [1, 4])
def test_a_mixture_of_experts_keeps_its_routers_loss(accumulated, tmp_path):
    """SFTTrainer takes its mean over what is accumulated."""
    ends = []
    for kind, pruning in [(StockSFTTrainer, None), (PruningSFTTrainer, NOTHING)]:
        made = sft_trainer(
            tmp_path,
            kind,
            pruning,
            model=mixture_of_experts,
            gradient_accumulation_steps=accumulated,
            num_train_epochs=1,
        )
        ends.append((made.train().training_loss, parameters(made.model)))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-5)
    assert (ends[0][1] - ends[1][1]).abs().max() < 1e-5


@pytest.mark.parametrize("pruning", [VARYING, SMALLER], ids=["steps", "batches"])
def test_pruned_it_is_the_pruning_trainer(pruning, tmp_path):
    ours = sft_trainer(tmp_path, pruning=pruning, save_strategy="steps", save_steps=15)
    ours.train()
    data = list(ours.train_dataset.select_columns(["input_ids", "labels"]).with_format("torch"))
    expected = trainer(tmp_path, data=data, collate=pad, pruning=pruning)
    expected.train()
    assert torch.equal(ours.pruner.selection.weights, expected.pruner.selection.weights)
    assert (parameters(ours.model) - parameters(expected.model)).abs().max() < 1e-6
    assert ours.pruner.report().saved > 0.1
    assert pruning is VARYING or ours.state.global_step == 3 * 13
    resumed = sft_trainer(tmp_path, pruning=pruning)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-15"))
    assert torch.equal(parameters(resumed.model), parameters(ours.model))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"packing": True, "max_length": 16}, r"packing is True: it joins several.*pack the dataset"),
        (
            {"packing": True, "max_length": 16, "packing_strategy": "wrapped"},
            r"packing is True: it joins several.*pack the dataset",
        ),
        ({"padding_free": True, "max_length": None}, r"padding_free is True: it joins a batch"),
        ({"loss_type": "dft"}, r"loss_type is 'dft': the loss that is weighted is the cross-entropy"),
    ],
)
def test_what_has_no_loss_for_each_sample_is_refused(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        sft_trainer(tmp_path, pruning=NOTHING, **arguments)


def test_adapters_are_trained_on_what_is_selected(tmp_path):
    config = peft.LoraConfig(target_modules=["c_attn"], r=2, fan_in_fan_out=True)
    ours = sft_trainer(tmp_path, pruning={"policy": InfoBatch(0.9), "delta": 1}, peft_config=config)
    before = {name: value.clone() for name, value in ours.model.named_parameters()}
    ours.train()
    assert ours.pruner.report().saved > 0.1
    for name, value in ours.model.named_parameters():
        assert torch.equal(before[name], value) != ("lora" in name), name
