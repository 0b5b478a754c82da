"""What a function of the user's does with images, in place of the lab's crops and flips."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.lab.functions import call_with, load_function, reason_of


class Transform:
    """A function of an image, as Pillow has it in RGB, that gives what the network takes.

    It reaches loader processes by the name of what makes it, for few such functions can be pickled.

    Args:
        name: The function that makes it, as ``FILE.py:NAME`` or ``MODULE:NAME``.
        train: Whether it is for images to train on.
        image_size: The side of the square that the network is meant to see, in pixels.

    Raises:
        ValueError: If there is no such function, or it makes none.
    """

    def __init__(self, name: str, train: bool, image_size: int) -> None:
        self._made_by = (name, train, image_size)
        offered = {"train": train, "image_size": image_size}
        self._function = call_with(load_function(name), name, offered)
        if not callable(self._function):
            raise ValueError(
                f"--transform is {name}, which returns a value of type {type(self._function).__name__}; "
                "return a function of an image"
            )

    def __call__(self, image: Any) -> Any:
        return self._function(image)

    def __reduce__(self) -> tuple[Any, ...]:
        return Transform, self._made_by


@dataclass(frozen=True)
class Transforms:
    """What is done with images.

    Args:
        train: What is done with an image to train on.
        test: What is done with an image to evaluate on.
        shape: Channels, height and width of what they give, which is float32.
    """

    train: Transform
    test: Transform
    shape: tuple[int, int, int]


def load_transforms(name: str, image_size: int, images: tuple[Any, Any]) -> Transforms:
    """Make a user's transforms, and try each on an image.

    Args:
        name: See :class:`Transform`. It is given ``train`` and ``image_size``, if it names them.
        image_size: See :class:`Transform`.
        images: An image to train on and one to evaluate on, as Pillow has them.

    Raises:
        ValueError: If there is no such function, or what it returns fails, gives no float tensor
            (C, H, W), or gives two that differ in their shape.
    """
    made = [Transform(name, train, image_size) for train in (True, False)]
    shapes = []
    for transform, image in zip(made, images, strict=True):
        for draw in range(2):  # whose random crops may differ in size
            shapes.append(_shape(name, transform, image, draw))
    if len(set(shapes)) > 1:
        different = " and ".join(map(str, dict.fromkeys(shapes)))
        raise ValueError(
            f"--transform is {name}, which gives tensors of {different}; give all images one size, to "
            "train and to evaluate on"
        )
    return Transforms(made[0], made[1], shapes[0])


def _shape(name: str, transform: Transform, image: Any, draw: int) -> tuple[int, int, int]:
    """The shape of what a transform gives for an image, if that is a float tensor (C, H, W)."""
    try:
        with drawing_from(np.random.default_rng(draw)):
            seen = transform(image)
    except Exception as error:
        raise ValueError(
            f"--transform is {name}, which fails on an image of {image.size[0]}x{image.size[1]} pixels: "
            f"{reason_of(error)}"
        ) from error
    if not isinstance(seen, Tensor) or seen.dtype != torch.float32 or seen.ndim != 3:
        is_tensor = isinstance(seen, Tensor)
        what = (
            f"a tensor {tuple(seen.shape)} of {seen.dtype}" if is_tensor else f"a {type(seen).__name__}"
        )
        raise ValueError(
            f"--transform is {name}, which makes of an image {what}; make a tensor (C, H, W) of "
            "torch.float32, as the network takes it"
        )
    channels, height, width = seen.shape
    return channels, height, width


@contextmanager
def drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """Seed the global generators of PyTorch, NumPy and Python, and put them back at the end.

    So what a transform draws for a sample depends on nothing but that generator.

    Args:
        rng: Where the seed comes from.
    """
    seed = int(rng.integers(2**32))
    states = (torch.get_rng_state(), np.random.get_state(), random.getstate())
    torch.default_generator.manual_seed(seed)  # the CPU's alone
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
