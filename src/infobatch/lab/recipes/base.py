"""What a recipe is, and the list of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes.published import Published


@dataclass(frozen=True)
class Recipe:
    """A whole configuration by name.

    ``notes``: what its sources leave open or disagree on, and what was chosen. ``published``: what
    others report for it.
    """

    name: str
    summary: str
    notes: str
    make: Callable[[], TrainConfig]
    needs_gpu: bool
    published: tuple[Published, ...]

    def config(self) -> TrainConfig:
        return replace(self.make(), recipe=self.name)


RECIPES: dict[str, Recipe] = {}


def recipe(
    *, needs_gpu: bool = False, published: tuple[Published, ...] = ()
) -> Callable[[Callable[[], TrainConfig]], Callable[[], TrainConfig]]:
    """List a function as a recipe: its name, with hyphens, and its docstring are the recipe's."""

    def add(make: Callable[[], TrainConfig]) -> Callable[[], TrainConfig]:
        summary, _, notes = inspect.cleandoc(make.__doc__ or "").partition("\n\n")
        name = make.__name__.replace("_", "-")
        RECIPES[name] = Recipe(name, summary, " ".join(notes.split()), make, needs_gpu, published)
        return make

    return add
