"""Options."""

import pytest

from infobatch import Neyman
from infobatch.policies import UCB, EpsilonGreedy, OrderDP, Proportional, SeTa


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EpsilonGreedy(0.5, 1.5), "epsilon is 1.5; it is a share of the kept"),
        (lambda: UCB(0.5, -1), "c is -1; it must be a number of at least 0"),
        (lambda: OrderDP(0.5, 0), "keep is 0; it is a share of the pool"),
        (lambda: SeTa(0.1, 5, 0.05), "must keep at least one of them"),
        (lambda: Proportional(0.5, floor=0), "floor is 0; it is a share of the mean"),
        (lambda: Neyman(floor=1.5), "floor is 1.5; it is a share of the mean"),
        (lambda: Neyman(strata=1), "strata is 1; it must be a whole number from 2 to 200"),
        (lambda: Proportional(0.5, power=-1), "power is -1; it must be at least 0"),
        (lambda: Proportional().check_target(100, 100), "at least one must be kept"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
