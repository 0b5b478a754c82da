"""Networks for the rows of tables."""

import pytest
import torch

from infobatch.lab.config.task_options import TabularOptions
from infobatch.lab.models.tables import TableMLP, check_table_model, embedding_width


@pytest.mark.parametrize("num_codes", [(), (105, 4)])
@pytest.mark.parametrize(
    "options", [TabularOptions(), TabularOptions(layers=0), TabularOptions(3, 8, batch_norm=True)]
)
def test_logits_depend_on_all_columns(num_codes, options):
    torch.manual_seed(0)
    model = TableMLP(6, num_codes, 3, options)
    codes = (
        torch.stack([torch.arange(4) for _ in num_codes], 1) if num_codes else torch.zeros(4, 0).long()
    )
    logits = model(torch.randn(4, 6), codes)
    assert logits.shape == (4, 3)
    logits[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert sum(isinstance(part, torch.nn.BatchNorm1d) for part in model.modules()) == (
        options.layers if options.batch_norm else 0
    )


def test_the_default_has_two_hidden_layers_of_256():
    sizes = [
        part.out_features
        for part in TableMLP(6, (3,), 7, TabularOptions()).layers
        if hasattr(part, "bias")
    ]
    assert sizes == [256, 256, 7]


def test_embeddings_grow_with_the_codes_up_to_a_width():
    assert [embedding_width(num) for num in (2, 4, 17, 105)] == [1, 2, 9, 50]


def test_an_unknown_category_adds_nothing_at_first():
    model = TableMLP(1, (5,), 2, TabularOptions())
    assert model.embeddings[0](torch.tensor([0])).count_nonzero() == 0
    assert model.embeddings[0](torch.tensor([1])).count_nonzero() == 3


def test_an_unknown_model_lists_what_there_is():
    with pytest.raises(ValueError, match="no model 'small-cnn'; there are: mlp"):
        check_table_model("small-cnn")
