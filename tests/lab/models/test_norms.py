"""Batch norm and group norm."""

import pytest
import torch

from infobatch.lab.models import make_model


@pytest.mark.parametrize("name", ["small-cnn", "resnet8"])
def test_with_group_norm_a_sample_does_not_see_its_batch_mates(name):
    torch.manual_seed(0)
    images = torch.randn(6, 3, 16, 16)
    alone = {}
    for norm in ("group", "batch"):
        model = make_model(name, (3, 32, 32), 5, norm=norm)
        alone[norm] = torch.allclose(model(images)[:2], model(images[:2]), atol=1e-5)
    assert alone == {"group": True, "batch": False}
