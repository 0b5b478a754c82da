"""Images of all kinds become pictures on sheets, and those that do not open are told."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from infobatch.lab.explorer.thumbnails import make_thumbnails, picture_of

RED = np.zeros((6, 9, 3), dtype=np.uint8)
RED[..., 0] = 255


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def shades_on(sheet, pitch, number):
    """The shade of the pixel in the middle of each thumbnail of a sheet's first row."""
    image = Image.open(io.BytesIO(base64.b64decode(sheet)))
    middle = pitch // 2
    return [image.getpixel((k * pitch + middle, middle))[0] for k in range(number)]


@pytest.mark.parametrize(
    "image",
    [
        RED,
        encoded(RED),
        io.BytesIO(encoded(RED)),
        Image.fromarray(RED),
        Image.fromarray(RED).convert("P"),
        torch.from_numpy(RED).permute(2, 0, 1),
        torch.from_numpy(RED / 255).permute(2, 0, 1),
        torch.from_numpy(RED / 255).permute(2, 0, 1).bfloat16(),
        (RED, 7),
        [RED, 7],
    ],
    ids=["array", "bytes", "file", "picture", "palette", "tensor", "floats", "half", "item", "list"],
)
def test_all_kinds_of_images_are_taken(image):
    picture = picture_of(image)
    assert picture.size == (9, 6)
    assert picture.getpixel((4, 3)) == (255, 0, 0)


def test_an_image_is_read_from_its_path(tmp_path):
    path = tmp_path / "red.png"
    path.write_bytes(encoded(RED))
    assert picture_of(str(path)).getpixel((0, 0)) == picture_of(path).getpixel((0, 0)) == (255, 0, 0)


def test_normalized_floats_are_stretched():
    picture = picture_of(np.array([[-2.0, 0.0], [2.0, 2.0]]))
    assert [picture.getpixel(at)[0] for at in ((0, 0), (1, 0), (0, 1))] == [0, 128, 255]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_pictures_of_more_than_8_bits_are_stretched(tmp_path, dtype):
    pixels = np.array([[0, 30_000, 60_000]], dtype)
    Image.fromarray(pixels).save(tmp_path / "deep.tiff")
    for image in (tmp_path / "deep.tiff", Image.fromarray(pixels)):
        assert np.asarray(picture_of(image))[0, :, 0].tolist() == [0, 128, 255]


def test_pixels_that_are_not_finite_leave_the_others_as_they_are():
    picture = picture_of(np.array([[np.nan, -1.0, 0.0, 1.0, np.inf]]))
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    with pytest.raises(ValueError, match="none of its pixels has a finite value"):
        picture_of(np.full((2, 2), np.nan))


def test_small_images_stay_as_they_are_on_sheets_of_256():
    images = np.arange(300, dtype=np.uint8)[:, None, None] * np.ones((8, 8), np.uint8)
    made = make_thumbnails(images, np.arange(300))
    assert (made.side, made.pitch, len(made.sheets)) == (8, 8, 2)
    assert shades_on(made.sheets[1], 8, 16) == list(range(0, 16))


def test_large_images_are_shrunk_and_do_not_bleed_into_one_another():
    images = [np.full((100, 200, 3), shade, np.uint8) for shade in (0, 255, 0, 255)]
    made = make_thumbnails(images, np.arange(4), largest=40)
    assert (made.side, made.pitch) == (40, 48)
    file = Image.open(io.BytesIO(base64.b64decode(made.sheets[0])))
    assert [file.getpixel((k * 48 + 20, 20))[0] for k in range(4)] == pytest.approx(
        [0, 255, 0, 255], abs=6
    )


def test_images_that_do_not_open_are_told(tmp_path):
    images = [RED, b"no image", tmp_path / "nowhere.png", RED]
    made = make_thumbnails(images, np.arange(4))
    assert made.broken == [1, 2]
    assert made.reason == "of no known format"
    with pytest.raises(ValueError, match=r"none of the 2 images opens \(of no known format\); check"):
        make_thumbnails(images[1:3], np.arange(2))


@pytest.mark.parametrize("image", [object(), np.zeros((2, 3, 5)), 3])
def test_what_is_no_image_is_refused(image):
    with pytest.raises((TypeError, ValueError), match="no image"):
        picture_of(image)
