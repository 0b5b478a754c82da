"""The recipes for ImageNet."""

import pytest
import torch

from infobatch.lab.models import make_model
from infobatch.lab.recipes import find_recipe

NUM_CLASSES = {"cifar10": 10, "cifar100": 100, "tiny-imagenet": 200, "imagenet": 1000}


@pytest.mark.parametrize("name", ["imagenet-resnet50-sgd", "imagenet-resnet18-lamb"])
def test_imagenet_networks_shrink_the_image_to_seven_pixels(name):
    config = find_recipe(name).config()
    model = make_model(config.model, (3, 32, 32), NUM_CLASSES[config.data], config.stem_stride)
    features = model.stages(model.stem(torch.zeros(1, 3, 224, 224)))
    assert features.shape[2:] == (7, 7)
