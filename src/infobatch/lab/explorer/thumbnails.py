"""Images as small pictures, many on one WebP sheet."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from infobatch.lab.data.images import has_deep_shades, pillow_reason

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 64
"""The longer side of a thumbnail at most where nothing else is said, in pixels."""
ACROSS = 16
"""How many thumbnails a sheet has in a row and in a column."""
BLOCK = 16
"""What WebP compresses at a time, in pixels: thumbnails begin at its multiples, and none bleeds into
another."""
LOSSLESS = 16
"""The side up to which thumbnails keep each pixel as it is."""
BACKGROUND = (226, 229, 233)


@dataclass(frozen=True)
class Thumbnails:
    """Small pictures of the samples on a page.

    Args:
        side: The pixels of a thumbnail's side.
        pitch: The pixels from one thumbnail of a sheet to the next.
        sheets: WebP files in base64; ``ACROSS``² thumbnails on each, row by row.
        broken: The places of those samples whose images do not open, and why the first of them does not.
    """

    side: int
    pitch: int
    sheets: Sequence[str]
    broken: Sequence[int]
    reason: str = ""


def make_thumbnails(images: Any, indices: np.ndarray, largest: int = LARGEST) -> Thumbnails:
    """Make the pictures of some samples.

    Args:
        images: The image of each sample by its index; see :func:`picture_of`.
        indices: The samples, int64 (n,).
        largest: The longer side of a thumbnail at most, in pixels, at least 8.

    Returns:
        The thumbnails, in the order of the indices.

    Raises:
        ValueError: If none of the images opens.
    """
    small: list[Image | None] = []
    reason = ""
    for index in indices.tolist():
        try:
            picture = picture_of(images[index])
            picture.thumbnail((largest, largest))
        except Exception as error:  # those of Pillow and of users' data sets are of any type
            reason = reason or pillow_reason(error)
            small.append(None)
        else:
            small.append(picture)
    side = max((max(each.size) for each in small if each), default=0)
    if not side:
        raise ValueError(f"none of the {len(small):,} images opens ({reason}); check what images holds")
    pitch = -(-side // BLOCK) * BLOCK if side > LOSSLESS else side
    per_sheet = ACROSS**2
    sheets = [
        _sheet(small[start : start + per_sheet], side, pitch)
        for start in range(0, len(small), per_sheet)
    ]
    broken = [place for place, each in enumerate(small) if each is None]
    return Thumbnails(side, pitch, sheets, broken, reason)


def _sheet(pictures: Sequence[Image | None], side: int, pitch: int) -> str:
    """Pictures on one sheet, a WebP file in base64."""
    from PIL import Image

    rows = -(-len(pictures) // ACROSS)
    sheet = Image.new("RGB", (ACROSS * pitch, rows * pitch), BACKGROUND)
    for place, picture in enumerate(pictures):
        if picture is not None:
            row, column = divmod(place, ACROSS)
            left, top = ((side - length) // 2 for length in picture.size)
            sheet.paste(picture, (column * pitch + left, row * pitch + top))
    file = io.BytesIO()
    sheet.save(file, "WEBP", lossless=side <= LOSSLESS, quality=80, method=2)
    return base64.b64encode(file.getvalue()).decode()


def picture_of(image: Any) -> Image:
    """An image of any of the usual kinds as a picture in RGB.

    Args:
        image: A path, an open file, bytes, a picture of Pillow, an array (H, W) or (H, W, C), a tensor
            (H, W) or (C, H, W), or a tuple or list whose first entry is one of these. Of floats, those
            from 0 to 1 are shades; others are stretched from their least to their greatest.

    Returns:
        The picture, which may be changed.

    Raises:
        TypeError: If it is none of these.
        OSError: If it does not open.
    """
    from PIL import Image

    if isinstance(image, (tuple, list)) and image:
        image = image[0]
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        values = (image.float() if image.is_floating_point() else image).numpy()
        return _drawn(values.transpose(1, 2, 0) if values.ndim == 3 else values)
    if isinstance(image, np.ndarray):
        return _drawn(image)
    if isinstance(image, Image.Image):
        return _in_rgb(image)
    if isinstance(image, bytes):
        image = io.BytesIO(image)
    if isinstance(image, (str, os.PathLike)) or hasattr(image, "read"):
        with Image.open(image) as opened:
            opened.draft("RGB", (4 * LARGEST, 4 * LARGEST))  # a JPEG may be decoded at a fraction
            return _in_rgb(opened)
    raise TypeError(f"it is a {type(image).__name__}, and no image")


def _in_rgb(picture: Image) -> Image:
    """A picture in RGB, stretched to be seen if it has more than 8 bits for a shade."""
    if has_deep_shades(picture):
        return _drawn(np.asarray(picture))
    return picture.convert("RGB")


def _drawn(values: np.ndarray) -> Image:
    """The picture of pixels (H, W) or (H, W, C)."""
    from PIL import Image

    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        raise ValueError(f"it has the shape {values.shape}, and no image has")
    if values.dtype != np.uint8:
        floats = values.astype(np.float32)
        known = floats[np.isfinite(floats)]
        if not len(known):
            raise ValueError("none of its pixels has a finite value")
        low, high = (0.0, 1.0) if values.dtype == bool else (float(known.min()), float(known.max()))
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        elif low >= 0 and high <= 255 and np.issubdtype(values.dtype, np.integer):
            low, high = 0.0, 255.0
        floats = np.nan_to_num(floats, nan=low, posinf=high, neginf=low)
        values = ((floats - low) * (255 / max(high - low, 1e-6))).round().astype(np.uint8)
    pixels = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
