"""Images in memory, and pictures of any depth in RGB."""

import numpy as np
import pytest
from PIL import Image

from infobatch.lab.data import Normalize, load_data
from infobatch.lab.data.images import in_rgb


def test_normalised_training_pixels_have_mean_0_and_variance_1():
    pixels = load_data("digits").train.pixels
    normalised = Normalize.of(pixels)(pixels)
    assert abs(float(normalised.mean())) < 1e-3
    assert abs(float(normalised.std()) - 1) < 1e-3


@pytest.mark.parametrize("dtype", ["<u2", ">u2", np.int32], ids=["I;16", "I;16B", "I"])
def test_shades_of_16_bits_are_divided_by_256(tmp_path, dtype):
    Image.fromarray(np.array([[0, 255, 256, 40_000]], dtype)).save(tmp_path / "deep.tiff")
    pixels = np.asarray(in_rgb(Image.open(tmp_path / "deep.tiff")))
    assert pixels[0].tolist() == [[shade] * 3 for shade in (0, 0, 1, 156)]


@pytest.mark.parametrize(
    ("shades", "told"),
    [
        (np.array([[0, 70_000]], np.int32), "from 0 to 70000 in mode I"),
        (np.array([[-1, 5]], np.int32), "from -1 to 5 in mode I"),
        (np.array([[0, 0.5]], np.float32), "from 0 to 0.5 in mode F"),
    ],
)
def test_shades_whose_white_is_not_known_are_refused(shades, told):
    with pytest.raises(ValueError, match=rf"shades are {told}, .* not known: save it with 8 or 16 bits"):
        in_rgb(Image.fromarray(shades))
