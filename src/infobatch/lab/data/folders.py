"""Images in folders: which split and which class each file is of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from infobatch.lab.data.locations import some
from infobatch.lab.data.streamed import EncodedImages

TEST_NAMES = ("val", "valid", "validation", "test")
"""What the images to evaluate on are called, the first that is there before the others."""
PASSED_OVER = ("thumbs.db", "desktop.ini", "__macosx")
"""Files and folders that systems leave beside one's own; hidden ones are passed over, too."""
HELD_OUT = ", or hold out a part of the training images: --test train --held-out 0.1"
"""What to do where there are no images to evaluate on."""


def choose_test(root: Path, name: str) -> str:
    """The name of the folder with images to evaluate on.

    Args:
        root: The folder in which ``train`` lies.
        name: What ``--test`` says; empty for the first of :data:`TEST_NAMES` that is there.

    Raises:
        FileNotFoundError: If it is not there.
    """
    there = [each for each in ([name] if name else TEST_NAMES) if (root / each).is_dir()]
    if not there:
        wanted = name or f"such as {' or '.join(TEST_NAMES)}"
        raise FileNotFoundError(
            f"{root} holds no folder {wanted}, with images to evaluate on; it holds {found_in(root)}: "
            f"give --test the name of that folder{HELD_OUT}"
        )
    return there[0]


def class_folders(folder: Path) -> tuple[str, ...]:
    """The names of a split's class folders, in order; none for a split without classes.

    Args:
        folder: The folder of a split.

    Raises:
        ValueError: If images lie beside class folders.
    """
    inside = entries(folder)
    names = tuple(path.name for path in inside if path.is_dir())
    beside = [path.name for path in inside if path.is_file() and _is_image(path)]
    if names and beside:
        raise ValueError(
            f"{folder} holds {some(beside, 'image')} beside {some(names, 'class folder')}, and they "
            "would have no class; move them into one"
        )
    return names


def read_folder(folder: Path, class_names: Sequence[str]) -> EncodedImages:
    """Read which images there are.

    Args:
        folder: The folder of a split.
        class_names: The folders in it that hold the images of each class, those of the training images;
            none where the images lie in it themselves.

    Raises:
        FileNotFoundError: If a class has no folder, or no images.
        ValueError: If there is anything else than images.
    """
    if class_names and (unknown := set(class_folders(folder)) - set(class_names)):
        raise ValueError(
            f"{folder} holds the folder {min(unknown)}, which is no class of the training images "
            f"({some(class_names, 'class')}); remove it, or add the class to them"
        )
    paths: list[bytes] = []
    labels: list[int] = []
    for label, name in enumerate(class_names) if class_names else [(-1, "")]:
        found = _images_in(folder, name)
        paths += map(os.fsencode, found)
        labels += [label] * len(found)
    # One string, not a list of a million objects that every loader process would copy by touching.
    return EncodedImages(_Paths(np.array(paths, dtype=np.bytes_)), torch.tensor(labels))


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, in order, but for what is passed over."""
    paths = sorted(folder.iterdir(), key=lambda path: path.name)
    return [path for path in paths if path.name[0] != "." and path.name.lower() not in PASSED_OVER]


def found_in(folder: Path) -> str:
    """What lies in a folder, in words."""
    if not folder.is_dir():
        return "nothing (there is no such folder)"
    inside = entries(folder)
    folders = [path.name for path in inside if path.is_dir()]
    files = [path.name for path in inside if path.is_file()]
    parts = [some(names, kind) for names, kind in ((folders, "folder"), (files, "file")) if names]
    return " and ".join(parts) or "nothing"


def _images_in(folder: Path, name: str) -> list[str]:
    """The paths of the images in the folder of a class or, without a name, of a split."""
    place = folder / name
    if not place.is_dir():
        raise FileNotFoundError(
            f"{folder} has no folder {name}, a class of the training images; it must hold a folder for "
            "each class: sort the images to evaluate on into them, or remove the class from all splits"
        )
    inside = entries(place)
    whose = f"the folder of the class {name}, {place}," if name else str(place)
    if deeper := [path.name for path in inside if path.is_dir()]:
        raise ValueError(
            f"{whose} holds {some(deeper, 'folder')}, and must hold images alone: class folders lie in "
            f"{folder} itself; move them, or the images, one level up"
        )
    if not inside:
        remedy = ", or remove the class from all splits" if name else ""
        raise FileNotFoundError(f"{whose} holds no images; add some{remedy}")
    for path in inside:
        if not _is_image(path):
            raise ValueError(f"{path} is no image by its name; remove it, or name it by its format")
    return [str(path) for path in inside]


def _is_image(path: Path) -> bool:
    """Whether a file is an image by its name."""
    from PIL import Image

    return path.suffix.lower() in Image.registered_extensions()


class _Paths:
    """Images by the paths of their files, as bytes."""

    def __init__(self, paths: np.ndarray) -> None:
        self._paths = paths

    def read(self, index: int) -> str:
        return os.fsdecode(self._paths[index])

    name = read
