"""Recipes: the published experiments and some small ones, each a function giving its configuration."""

from __future__ import annotations

from infobatch.lab.names import choose
from infobatch.lab.recipes import (
    cifar,
    cpu,
    diffusion,
    imagenet,
    mae,
    segmentation,
    tiny_imagenet,
    tuning,
)
from infobatch.lab.recipes.base import RECIPES, Recipe
from infobatch.lab.recipes.published import Published


def find_recipe(name: str) -> Recipe:
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
    "tiny_imagenet",
    "tuning",
]
