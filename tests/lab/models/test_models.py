"""Networks by name, of the lab and of timm."""

import sys

import pytest
import torch

from infobatch.lab.models import MODELS, check_model, make_model
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


def test_models_of_timm_are_made_where_it_is_installed(monkeypatch):
    made = []

    class Timm:
        @staticmethod
        def create_model(name, **options):
            made.append((name, options))
            return torch.nn.Identity()

    monkeypatch.setitem(sys.modules, "timm", Timm)
    check_model("timm/resnet26", 1, "batch")
    make_model("timm/resnet26", (3, 32, 32), 10)
    assert made == [("resnet26", {"in_chans": 3, "num_classes": 10})]
    with pytest.raises(ValueError, match="--norm is group, but timm/resnet26 comes with its own"):
        check_model("timm/resnet26", 1, "group")


def test_timm_that_cannot_be_imported_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"models named timm/NAME need timm.*pip install timm"):
        check_model("timm/resnet26", 1, "batch")
