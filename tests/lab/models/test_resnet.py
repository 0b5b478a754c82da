"""ResNets have the sizes of the papers."""

import pytest
import torch

from infobatch.lab.models import make_model

# ResNet-20: the 269,722 of He et al. (2016) and 2,752 of projections where the paper pads. The others:
# torchvision's, less the larger stem (9,408 - 1,728 weights) and the larger head.
PARAMETERS = {"resnet20": 272_474, "resnet18": 11_173_962, "resnet50": 23_520_842}


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name):
    counted = sum(p.numel() for p in make_model(name, (3, 32, 32), 10).parameters())
    assert counted == PARAMETERS[name]


@pytest.mark.parametrize(("name", "count"), [("resnet18", 11_689_512), ("resnet50", 25_557_032)])
def test_imagenet_networks_have_the_size_of_torchvisions(name, count):
    model = make_model(name, (3, 32, 32), 1000, stem_stride=4)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("stem_stride", [1, 2, 4])
def test_the_stem_shrinks_the_image(stem_stride):
    model = make_model("resnet8", (3, 32, 32), 10, stem_stride)
    assert model.stem(torch.zeros(1, 3, 32, 32)).shape[2:] == (32 // stem_stride, 32 // stem_stride)
