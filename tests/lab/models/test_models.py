"""Networks by name, of the lab and of timm."""

import pytest
import torch

from infobatch.lab.models import MODELS, make_model
from infobatch.lab.models.speed_cnn import SMALLEST_IMAGE, SPEED_CNNS


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (1, 8)])
def test_every_model_takes_every_image_size_and_learns(name, channels, size):
    if name in ("resnet18", "resnet50") and size != 32:
        pytest.skip("made for 32x32")
    if name in SPEED_CNNS and size < SMALLEST_IMAGE:
        pytest.skip("refused")
    torch.manual_seed(0)
    model = make_model(name, (channels, size, size), 7)
    logits = model(torch.randn(2, channels, size, size))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


def test_unknown_model_names_near_matches():
    with pytest.raises(ValueError, match="no model 'resnet19'; did you mean resnet"):
        make_model("resnet19", (3, 32, 32), 10)
