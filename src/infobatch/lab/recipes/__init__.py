"""Recipes: published experiments and small ones, each a function that makes a configuration."""

from __future__ import annotations

from infobatch.lab.names import choose
from infobatch.lab.recipes import (
    cifar,
    cpu,
    diffusion,
    imagenet,
    mae,
    segmentation,
    tabular,
    tiny_imagenet,
    tuning,
)
from infobatch.lab.recipes.base import RECIPES, Recipe
from infobatch.lab.recipes.published import Published


def find_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Args:
        name: Its name, such as ``cifar10-resnet18``.

    Returns:
        The recipe.

    Raises:
        ValueError: If there is no such recipe; it lists near names.
    """
    if name.endswith(".py"):
        raise ValueError(f"{name} is a file; name the training function in it, too, as {name}:train")
    if any(sign in name for sign in "./:"):
        raise ValueError(
            f"there is no recipe {name!r}; a table of yours is given as FILE.csv:COLUMN, and a training "
            "function as FILE.py:NAME or MODULE:NAME"
        )
    return choose("recipe", name, RECIPES)


__all__ = [
    "RECIPES",
    "Published",
    "Recipe",
    "cifar",
    "cpu",
    "diffusion",
    "find_recipe",
    "imagenet",
    "mae",
    "segmentation",
    "tabular",
    "tiny_imagenet",
    "tuning",
]
