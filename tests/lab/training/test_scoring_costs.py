"""What scoring beforehand costs, and what is left for the run."""

from dataclasses import replace

import pytest

from helpers.digits import SCORED, STATIC
from infobatch.lab.training.scoring_costs import at_equal_cost, scoring_epochs


def test_what_scoring_costs():
    # Of 200 epochs: one network for 40; two for 10, and a look at a third; two for 10, and one at 1.
    config = replace(SCORED, epochs=200)
    costs = [scoring_epochs(replace(config, policy=name)) for name in STATIC]
    assert costs == pytest.approx([40, 2 * (10 + 1 / 3), 2 * (10 + 1)])
    assert scoring_epochs(replace(config, policy="rcap")) == 0
    at_least = [scoring_epochs(replace(config, policy=name, epochs=5)) for name in STATIC]
    assert at_least == pytest.approx([2, 2 * (1 + 1 / 3), 2 * 2])


def test_the_run_leaves_out_what_scoring_costs_too():
    config = replace(SCORED, epochs=10, policy="forgetting", target=0.3)
    assert at_equal_cost(config).target == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"scores cost 20 % of the run, and no more than 15 % may be"):
        at_equal_cost(replace(config, target=0.85))
    other = replace(config, policy="random")
    assert at_equal_cost(other) is other
