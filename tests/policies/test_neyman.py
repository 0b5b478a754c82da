"""Neyman's allocation on examples worked out by hand."""

import pytest
import torch

from helpers import request, table_from
from infobatch import Neyman

NAN = float("nan")


def test_neyman_draws_by_the_size_of_a_stratums_losses():
    policy = Neyman(strata=2, floor=0.1)
    losses = [1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0]
    kept = policy.keep_probabilities(table_from(losses, policy), request(4))
    assert kept.strata.tolist() == [0] * 4 + [1] * 4
    assert kept.probabilities.tolist() == [0.25, 0.75]  # 4 x 1 : 4 x 3, of 4
    mixed = table_from([0.0, 0.0, 4.0, 4.0] * 2, policy, smoothed_loss=[1.0] * 4 + [2.0] * 4)
    kept = policy.keep_probabilities(mixed, request(4))  # the same root mean square in both
    assert kept.probabilities.tolist() == [0.5, 0.5]


def test_neyman_draws_no_less_than_its_floor_and_no_more_than_there_are():
    policy = Neyman(strata=4, floor=0.5)
    losses = torch.tensor([0.0] * 10 + [0.01] * 10 + [1.0] * 10 + [100.0] * 10)
    kept = policy.keep_probabilities(table_from(losses, policy), request(16))
    # 0.5 x 24 / 40 = 0.3 in the three lower strata would leave 15 for the last, which has 10
    assert kept.probabilities[3] == 1
    assert kept.probabilities[:2].tolist() == [0.3, 0.3]
    assert (kept.probabilities * 10).sum() == 24


def test_neyman_takes_what_has_no_score_for_the_hardest():
    policy = Neyman(strata=2, floor=0.1)
    kept = policy.keep_probabilities(table_from([1.0, 1.0, NAN, NAN], policy), request(2))
    assert kept.probabilities.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Neyman(floor=1.5), "floor is 1.5; it is a share of the mean"),
        (lambda: Neyman(strata=1), "strata is 1; it must be a whole number from 2 to 200"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
