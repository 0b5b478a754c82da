"""A batch carries its samples' indices, and the rows that they belong to."""

import pytest
import torch

from helpers.language import pad, parameters, sentences

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from helpers.trainer import VARYING, Stock, trainer
from infobatch.integrations.transformers import INDICES

pytestmark = pytest.mark.integrations


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
