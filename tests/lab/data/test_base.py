"""A part of the training set is held out, and a part of the rest is trained on."""

import pytest
import torch

from infobatch.lab.data import load_data


def test_a_part_is_held_out_of_the_training_set():
    whole = load_data("digits")
    data = whole.split(0.25, 0)
    assert (len(data.train), len(data.test)) == (1050, 350)
    both = torch.cat([data.train.pixels, data.test.pixels]).flatten(1)
    assert len(both.unique(dim=0)) == len(whole.train.pixels.flatten(1).unique(dim=0))
    again = whole.split(0.25, 300)
    assert torch.equal(again.test.pixels, data.test.pixels)
    assert len(again.train) == 300
    assert torch.equal(whole.split(0, 300).test.pixels, whole.test.pixels)
    assert torch.equal(whole.split(0, 0).train.pixels, whole.train.pixels)
    with pytest.raises(ValueError, match=r"--train-samples is 1,051, but digits has only 1,050"):
        whole.split(0.25, 1051)
