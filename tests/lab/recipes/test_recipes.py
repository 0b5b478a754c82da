"""Recipes by name: each is a valid configuration."""

import pytest

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import DATA_SETS, DOWNLOADS
from infobatch.lab.recipes import RECIPES, find_recipe
from infobatch.lab.training.validate import check_config


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_valid_configuration_that_knows_its_name(name):
    recipe = find_recipe(name)
    config = recipe.config()
    assert isinstance(config, TrainConfig)
    if config.task == "mae":
        pytest.importorskip("transformers")
    if config.model:
        check_config(config)
    else:  # which is to be given
        with pytest.raises(ValueError, match="no model is named; give --model"):
            check_config(config)
    assert config.recipe == name
    assert recipe.summary.endswith((".", ":", "run"))
    assert config.data in DATA_SETS
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.needs_gpu])
def test_large_recipes_use_what_a_gpu_has(name):
    config = find_recipe(name).config()
    assert config.precision == "bf16" or config.resident  # which is made for trials on a CPU, too
    if config.task == "classification":
        assert config.compile or config.resident
        assert config.data in DOWNLOADS


def test_the_experiments_of_the_paper_and_its_reproductions_are_there():
    wanted = {
        *(f"cifar{n}-resnet{m}" for n in (10, 100) for m in (18, 50)),
        *("cifar10-resnet18-batch256", "cifar10-resnet50-lars", "cifar100-resnet50-lars"),
        *("tiny-imagenet-resnet18", "tiny-imagenet-resnet50", "imagenet-resnet50-lars"),
        *("imagenet-resnet50-sgd", "imagenet-resnet18-lamb", "cifar10-resnet18-lamb"),
    }
    assert wanted <= set(RECIPES)


def test_scale_invariant_optimisers_divide_by_the_weights():
    for name, recipe in RECIPES.items():
        config = recipe.config()
        if config.optimizer in ("lars", "lamb"):
            assert config.normalizer == "weights", name


def test_an_unknown_recipe_names_near_matches():
    with pytest.raises(
        ValueError, match=r"no recipe 'mine\.train'; a table .* function as FILE\.py:NAME"
    ):
        find_recipe("mine.train")
    with pytest.raises(ValueError, match="no recipe 'cifar10-resnet-18'; did you mean cifar10-resnet18"):
        find_recipe("cifar10-resnet-18")
