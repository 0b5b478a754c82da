"""Language models, their tokenizers and their adapters."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.tuning import MARKS, QUICK, task_of
from infobatch.lab.commands import loading
from infobatch.lab.models import language
from infobatch.lab.training.validate import check_config

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytest.importorskip("tyro")


pytestmark = MARKS


@pytest.fixture
def config(instructions):
    return replace(QUICK, data_dir=instructions)


def test_the_tokenizer_is_the_same_for_the_same_texts(config):
    first, second = loading.load(config), loading.load(config)
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    text = "Ünïcode, and\n\nwhat was never seen"
    assert first.tokenizer.decode(first.tokenizer(text)["input_ids"]) == text


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


def test_adapters_need_linear_layers():
    pytest.importorskip("peft")
    with pytest.raises(ValueError, match="Embedding has no linear layers to put adapters beside"):
        language.with_adapters(torch.nn.Embedding(3, 4), 2, 16)
