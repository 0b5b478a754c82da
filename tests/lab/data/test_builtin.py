"""Sets that come with a package."""

import pytest
import torch

from infobatch.lab.data import load_data


@pytest.mark.parametrize(
    ("name", "train", "test", "shape"),
    [("mnist5k", 4000, 1000, (1, 28, 28)), ("digits", 1400, 397, (1, 8, 8))],
)
def test_builtin_sets_have_a_fixed_split_without_overlap(name, train, test, shape):
    data, again = load_data(name), load_data(name)
    assert (len(data.train), len(data.test)) == (train, test)
    assert data.train.pixels.shape[1:] == shape
    assert data.train.pixels.dtype == torch.uint8
    assert torch.equal(data.test.pixels, again.test.pixels)
    assert set(data.train.labels.tolist()) == set(range(10)) == set(data.test.labels.tolist())


def test_mnist5k_uses_all_of_the_grey_range():
    assert load_data("mnist5k").train.pixels.max() == 255
