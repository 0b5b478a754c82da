"""Adapters of PEFT, trained by the Trainer with pruning."""

import pytest
import torch

from infobatch import DynamicPruner

pytest.importorskip("peft")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import peft

from helpers.language import causal_model, parameters, sentences, train_plainly
from helpers.trainer import NOTHING, VARYING, Stock, trainer

pytestmark = [
    pytest.mark.integrations,
    # PEFT still calls it by its old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def adapted():
    torch.manual_seed(4)
    options = {"target_modules": ["c_attn"], "fan_in_fan_out": True, "task_type": "CAUSAL_LM"}
    config = peft.LoraConfig(r=2, init_lora_weights=False, **options)
    return peft.get_peft_model(causal_model(), config)


def prompted():
    """A model with tokens of its own before each sequence, whose logits come first."""
    model = causal_model()
    torch.manual_seed(5)
    config = peft.PromptEncoderConfig("CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=8)
    return peft.get_peft_model(model, config)


@pytest.mark.parametrize("made", [adapted, prompted])
def test_nothing_pruned_is_the_stock_trainer(made, tmp_path):
    stock = trainer(tmp_path, Stock, made(), num_train_epochs=2)
    ours = trainer(tmp_path, model=made(), pruning=NOTHING, num_train_epochs=2)
    stock.train()
    ours.train()
    assert (parameters(stock.model) - parameters(ours.model)).abs().max() < 1e-6


def test_pruned_it_is_a_plain_loop_and_resumes(tmp_path):
    options = {"pruning": VARYING, "num_train_epochs": 4}
    ours = trainer(tmp_path, model=adapted(), save_strategy="steps", save_steps=15, **options)
    before = parameters(ours.model)
    ours.train()
    pruner, model = DynamicPruner(sentences(), num_epochs=4, seed=42, **VARYING), adapted()
    _, seen, _ = train_plainly(pruner, model)
    assert ours.seen == seen
    assert (parameters(model) - parameters(ours.model)).abs().max() < 1e-6
    assert (before - parameters(ours.model)).abs().max() > 1e-3
    assert ours.pruner.report().saved > 0.1
    resumed = trainer(tmp_path, model=adapted(), **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-15"))
    assert torch.equal(parameters(resumed.model), parameters(ours.model))
