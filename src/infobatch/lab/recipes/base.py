"""What a recipe is, and the list of all recipes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes.published import Published


@dataclass(frozen=True)
class Recipe:
    """A named configuration.

    Args:
        name: What is typed to get it.
        summary: One sentence on it.
        notes: What its sources leave open or disagree on, and what was chosen.
        make: Makes the configuration, without the recipe's name.
        needs_gpu: Whether it is too long for a CPU.
        published: What others report for it.
    """

    name: str
    summary: str
    notes: str
    make: Callable[[], TrainConfig]
    needs_gpu: bool
    published: tuple[Published, ...]

    def config(self) -> TrainConfig:
        """The configuration, with the recipe's name in it."""
        return replace(self.make(), recipe=self.name)


RECIPES: dict[str, Recipe] = {}
"""All recipes by name."""


def recipe(
    *, needs_gpu: bool = False, published: tuple[Published, ...] = ()
) -> Callable[[Callable[[], TrainConfig]], Callable[[], TrainConfig]]:
    """Decorate a function that makes a configuration, to list it as a recipe.

    The recipe's name is the function's, with hyphens; its summary and notes are the docstring.

    Args:
        needs_gpu: Whether the recipe is too long for a CPU.
        published: What others report for it.

    Returns:
        The decorator.
    """

    def add(make: Callable[[], TrainConfig]) -> Callable[[], TrainConfig]:
        summary, _, notes = inspect.cleandoc(make.__doc__ or "").partition("\n\n")
        name = make.__name__.replace("_", "-")
        RECIPES[name] = Recipe(name, summary, " ".join(notes.split()), make, needs_gpu, published)
        return make

    return add
