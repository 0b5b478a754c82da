"""The items that samples have in the mean of all data."""

import pytest
import torch

pytest.importorskip("transformers")

from infobatch.integrations.transformers.items import MeanItems, sums_of

pytestmark = pytest.mark.integrations

TWO = sums_of(torch.tensor([100, 10]), torch.tensor([0.5, 2.0]))
ONE = sums_of(torch.tensor([6]), torch.ones(1))


def test_sums_are_of_items_with_weights_and_without_and_of_samples_but_no_repeats():
    sums = sums_of(torch.tensor([3, 5, 7]), torch.tensor([0.5, 2.0, 0.0]))
    assert sums.tolist() == [15, 11.5, 2.5, 2]


def test_as_many_are_expected_as_the_epoch_before_had_in_the_mean():
    mean = MeanItems()
    mean.add(0, sums_of(torch.tensor([1, 2]), torch.ones(2)))
    mean.add(0, ONE)
    assert mean.expected(TWO) == 70, "the epoch is under way: by their weights"
    mean.add(1, TWO)
    assert mean.expected(TWO) == 2 * 3
    mean.add(2, ONE)
    assert mean.expected(ONE) == pytest.approx(70 / 2.5)


def test_it_goes_on_within_an_epoch():
    mean, again = MeanItems(), MeanItems()
    mean.add(0, sums_of(torch.tensor([1, 2]), torch.ones(2)))
    again.load_state_dict(mean.state_dict())
    for each in (mean, again):
        each.add(0, ONE)
        each.add(1, ONE)
    assert mean.expected(ONE) == again.expected(ONE) == 3
