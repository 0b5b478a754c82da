"""Tiers of the loss, each with its keep probability."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import keep_probabilities, random_losses
from infobatch.policies import PercentileTiers
from infobatch.selection import draw

NAN = float("nan")


def test_percentile_tiers_follow_the_authors_rule():
    losses = torch.arange(1000.0)
    kept = keep_probabilities(PercentileTiers(), losses)
    probabilities = kept.per_sample()
    assert probabilities[:200].tolist() == [0.25] * 200
    assert probabilities[200:850].tolist() == [0.5] * 650
    assert (probabilities[850:] == 1).all()
    selection = draw(kept, torch.Generator().manual_seed(0))
    assert selection.num_selected == 525
    assert set(selection.weights.tolist()) == {0, 1, 2, 4}


def test_percentile_tiers_reach_a_number_by_moving_their_bounds():
    losses = torch.arange(1000.0)
    half = keep_probabilities(PercentileTiers(), losses, num_pruned=238).per_sample()
    assert int((half == half[0]).sum()) == pytest.approx(100, abs=1)
    assert int((half < 1).sum()) == pytest.approx(426, abs=2)


@settings(deadline=None)
@given(
    losses=st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, NAN]), min_size=10, max_size=60),
    share=st.floats(0, 0.45),
    seed=st.integers(0, 1000),
)
def test_tiers_hold_the_next_lowest_each(losses, share, seed):
    num_pruned = int(share * len(losses))
    kept = keep_probabilities(PercentileTiers(), losses, num_pruned, seed)
    sizes = torch.bincount(kept.strata, minlength=3).tolist()
    left_out = [n * (1 - p) for n, p in zip(sizes, kept.probabilities.tolist(), strict=True)]
    assert sum(left_out) == pytest.approx(num_pruned)
    assert left_out[0] == pytest.approx(num_pruned * 0.15 / 0.475, abs=0.51)
    assert kept.probabilities[2] == 1
    ranks = np.nan_to_num(np.array(losses), nan=np.inf)
    by_stratum = [ranks[kept.strata.numpy() == stratum] for stratum in range(3)]
    for lower, higher in ((0, 1), (1, 2), (0, 2)):
        assert by_stratum[lower].max(initial=-1) <= by_stratum[higher].min(initial=np.inf)


@settings(deadline=None)
@given(
    num_scored=st.integers(0, 40),
    num_unscored=st.integers(1, 10),
    bound=st.floats(0.05, 1),
    kept=st.floats(0.05, 0.95),
)
def test_tiers_of_their_own_prune_no_sample_without_a_score(num_scored, num_unscored, bound, kept):
    losses = torch.cat([random_losses(num_scored), torch.full((num_unscored,), NAN)])
    for policy in (PercentileTiers(), PercentileTiers((bound,), (kept,))):
        assert (keep_probabilities(policy, losses).per_sample()[num_scored:] == 1).all()


@pytest.mark.parametrize(
    ("percentiles", "kept", "message"),
    [
        ((0.5,), (0.5, 0.5), "differ in length"),
        ((), (), "empty; give one keep probability for each tier"),
        ((0.0, 0.5), (0.5, 0.5), r"must rise within \(0, 1\]"),
        ((0.5, 0.5), (0.5, 0.5), r"must rise within \(0, 1\]"),
        ((0.5, 0.2), (0.5, 0.5), r"must rise within \(0, 1\]"),
        ((NAN,), (0.5,), r"must rise within \(0, 1\]"),
        ((0.5, 1.2), (0.5, 0.5), r"must rise within \(0, 1\]"),
        ([n / 201 for n in range(1, 202)], [0.5] * 201, "there are 201 percentiles; give 200 or fewer"),
        ((0.5,), (0.0,), "never be seen"),
        ((0.5,), (1.0,), "always kept need no tier"),
    ],
)
def test_tiers_that_make_no_sense_are_refused(percentiles, kept, message):
    with pytest.raises(ValueError, match=message):
        PercentileTiers(percentiles, kept)
