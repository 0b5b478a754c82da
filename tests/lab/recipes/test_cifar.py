"""The recipes of reproduction 1."""

from infobatch.lab.config.pruned_epochs import delta_of
from infobatch.lab.recipes import find_recipe


def test_the_recipe_of_reproduction_1_has_its_settings():
    config = find_recipe("cifar10-resnet18").config()
    assert (config.epochs, config.batch_size, config.lr) == (200, 128, 0.2)
    assert (config.weight_decay, config.label_smoothing, delta_of(config)) == (5e-4, 0.1, 0.875)
    assert "0.05" in find_recipe("cifar10-resnet18").notes
