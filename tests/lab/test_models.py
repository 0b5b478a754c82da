import sys

import pytest
import torch

from infobatch.lab.models import MODELS, check_model, make_model

# ResNet-20: the 269,722 of He et al. (2016) and 2,752 of projections where the paper pads. The others:
# torchvision's, less the larger stem (9,408 - 1,728 weights) and the larger head.
PARAMETERS = {"resnet20": 272_474, "resnet18": 11_173_962, "resnet50": 23_520_842}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (1, 8)])
def test_every_model_takes_every_image_size_and_learns(name, channels, size):
    if name in ("resnet18", "resnet50") and size != 32:
        pytest.skip("made for 32x32")
    torch.manual_seed(0)
    model = make_model(name, channels, 7)
    logits = model(torch.randn(2, channels, size, size))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name):
    counted = sum(p.numel() for p in make_model(name, 3, 10).parameters())
    assert counted == PARAMETERS[name]


def test_unknown_model_names_near_matches():
    with pytest.raises(ValueError, match="no model 'resnet19'; did you mean resnet"):
        make_model("resnet19", 3, 10)


@pytest.mark.parametrize(("name", "count"), [("resnet18", 11_689_512), ("resnet50", 25_557_032)])
def test_imagenet_networks_have_the_size_of_torchvisions(name, count):
    model = make_model(name, 3, 1000, stem_stride=4)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("stem_stride", [1, 2, 4])
def test_the_stem_shrinks_the_image(stem_stride):
    model = make_model("resnet8", 3, 10, stem_stride)
    assert model.stem(torch.zeros(1, 3, 32, 32)).shape[2:] == (32 // stem_stride, 32 // stem_stride)


@pytest.mark.parametrize("name", ["small-cnn", "resnet8"])
def test_with_group_norm_a_sample_does_not_see_its_batch_mates(name):
    torch.manual_seed(0)
    images = torch.randn(6, 3, 16, 16)
    alone = {}
    for norm in ("group", "batch"):
        model = make_model(name, 3, 5, norm=norm)
        alone[norm] = torch.allclose(model(images)[:2], model(images[:2]), atol=1e-5)
    assert alone == {"group": True, "batch": False}


def test_models_of_timm_are_made_where_it_is_installed(monkeypatch):
    made = []

    class Timm:
        @staticmethod
        def create_model(name, **options):
            made.append((name, options))
            return torch.nn.Identity()

    monkeypatch.setitem(sys.modules, "timm", Timm)
    check_model("timm/resnet26", 1, "batch")
    make_model("timm/resnet26", 3, 10)
    assert made == [("resnet26", {"in_chans": 3, "num_classes": 10})]
    with pytest.raises(ValueError, match="--norm is group, but timm/resnet26 comes with its own"):
        check_model("timm/resnet26", 1, "group")


def test_timm_that_cannot_be_imported_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"models named timm/NAME need timm.*pip install timm"):
        check_model("timm/resnet26", 1, "batch")
