"""A part of the training set is held out, and a part of the rest is trained on."""

import pytest
import torch

from infobatch.lab.data import Data, load_data


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


def test_what_is_held_out_does_not_depend_on_the_subset_that_is_trained_on():
    whole = load_data("digits")
    held = whole.split(0.25, 0)
    subset = torch.arange(0, 1400, 2)
    data = whole.split(0.25, 0, subset)
    assert torch.equal(data.test.pixels, held.test.pixels)
    left = subset[torch.isin(subset, held.origin)]
    assert torch.equal(data.origin, left)
    assert torch.equal(data.train.pixels, whole.train.pixels[left])
    few = whole.split(0.25, 100, subset)
    assert len(few.train) == 100
    assert torch.isin(few.origin, left).all()
    shown = whole.split(0.25, 0, held.origin)  # the numbers that explore has of such a run
    assert torch.equal(shown.origin, held.origin)
    of_subset = whole.subset(subset).split(0, 100)  # as such runs have it that are there
    assert torch.equal(whole.split(0, 100, subset).origin, of_subset.origin)


def test_a_part_that_is_held_out_leaves_some_and_has_some():
    whole = load_data("digits")
    with pytest.raises(ValueError, match=r"--held-out is 0\.0001, which is none of the 1,400 training"):
        whole.split(0.0001, 0)
    with pytest.raises(ValueError, match=r"--held-out is 0\.9999, .* none of the samples of digits to"):
        whole.split(0.9999, 0)
    held = whole.split(0.25, 0).origin
    subset = torch.arange(1400)[~torch.isin(torch.arange(1400), held)]
    with pytest.raises(ValueError, match=r"leaves none of the samples of digits that --subset names to"):
        whole.split(0.25, 0, subset)


def test_a_long_tail_has_fewer_of_each_class_than_of_the_one_before():
    whole = load_data("digits")
    data = whole.long_tailed(20)
    before, after = (torch.bincount(each.train.labels).double() for each in (whole, data))
    shares = after / before
    assert shares.tolist() == pytest.approx([20 ** (-k / 9) for k in range(10)], abs=0.01)
    assert torch.equal(data.test.labels, whole.test.labels)
    assert torch.equal(whole.long_tailed(20).train.pixels, data.train.pixels), "the same part each time"
    assert torch.equal(whole.long_tailed(1).train.pixels, whole.train.pixels)
    assert torch.bincount(whole.long_tailed(1e6).train.labels).min() == 1


def test_a_long_tail_needs_classes():
    with pytest.raises(ValueError, match="--imbalance is 20, and the samples of nothing have no single"):
        Data("nothing", range(3), range(3), ()).long_tailed(20)
