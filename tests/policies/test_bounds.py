"""Strata as bounds on the score, where no rank sees all scores."""

import numpy as np
import pytest

from helpers.policies import generator
from infobatch.policies.bounds import Bound, ScoreBounds, pooled


def test_a_samples_stratum_is_the_number_of_bounds_that_it_does_not_lie_below():
    bounds = ScoreBounds([Bound(1.0), Bound(3.0)], [0.2, 0.5, 1.0])
    losses = np.array([0.5, 1.0, 2.9, 3.0, np.nan], np.float32)
    assert bounds.strata(losses, generator(0)).tolist() == [0, 1, 1, 2, 2]


def test_of_the_samples_on_a_bound_its_share_lies_below():
    bounds = ScoreBounds([Bound(2.0, 0.3), Bound(2.0, 0.8)], [0.2, 0.5, 1.0])
    below = np.zeros(10)
    for seed in range(200):
        strata = bounds.strata(np.full(10, 2.0, np.float32), generator(seed))
        assert np.bincount(strata).tolist() == [3, 5, 2]
        below += strata == 0
    assert (below > 0).all(), "which of them is random"


def test_without_a_score_every_sample_has_the_mean_of_the_keep_probabilities():
    single = pooled(ScoreBounds([Bound(np.inf, 0.25), Bound(np.inf, 0.75)], [0.2, 0.5, 1.0]))
    assert list(single.bounds) == []
    assert single.probabilities == pytest.approx([0.25 * 0.2 + 0.5 * 0.5 + 0.25 * 1.0])
