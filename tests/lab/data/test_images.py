"""Images in memory."""

from infobatch.lab.data import Normalize, load_data


def test_normalised_training_pixels_have_mean_0_and_variance_1():
    pixels = load_data("digits").train.pixels
    normalised = Normalize.of(pixels)(pixels)
    assert abs(float(normalised.mean())) < 1e-3
    assert abs(float(normalised.std()) - 1) < 1e-3
