import pytest
import torch

from infobatch.lab.models import MODELS, make_model

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
