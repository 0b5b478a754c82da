"""Draws that go over the samples piece by piece give what a draw of all at once would."""

import numpy as np
import pytest
import torch

from infobatch.chunks import CHUNK
from infobatch.layouts.shuffled_epoch import epoch_order
from infobatch.policies import KeepProbabilities
from infobatch.policies.ranking import strata_by_rank
from infobatch.seeding import epoch_generator, permutation
from infobatch.selection import Selection, draw
from infobatch.selection.owed import _nth_highest
from infobatch.selection.strata import _in_order

NUM = 2 * CHUNK + 1000


@pytest.mark.parametrize("num_strata", [1, 3, 200])
def test_samples_are_put_in_the_order_of_their_strata(num_strata):
    strata = np.random.default_rng(num_strata).integers(0, num_strata, NUM).astype(np.uint8)
    order = _in_order(strata, np.bincount(strata, minlength=num_strata).tolist())
    assert np.array_equal(order, np.argsort(strata, kind="stable"))


def test_a_stratum_without_samples_has_no_place_in_the_order():
    strata = np.repeat(np.array([4, 0], np.uint8), CHUNK)
    assert np.array_equal(_in_order(strata, [CHUNK, 0, 0, 0, CHUNK]), np.argsort(strata, kind="stable"))


@pytest.mark.parametrize("spread", [0.0, 1e-12, 1.0, 1e6])
@pytest.mark.parametrize("n", [1, 2, 777, CHUNK])
def test_the_nth_highest_is_found_without_a_sort(spread, n):
    rng = np.random.default_rng(n)
    values = 0.5 + spread * rng.normal(size=NUM).round(3)  # of which many are equal
    among = rng.random(NUM) < 0.9
    assert _nth_highest(values, among, n) == np.sort(values[among])[-n]


def test_an_order_is_filtered_in_place():
    weights = (torch.rand(NUM, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    order = permutation(NUM, epoch_generator(5, 3))
    assert torch.equal(epoch_order(5, 3, Selection.of(weights)), order[weights[order.long()] > 0])


def test_equal_scores_are_spread_over_strata_as_if_drawn_at_once():
    size = NUM // 4
    strata = strata_by_rank(torch.zeros(NUM), [size] * 3, torch.Generator().manual_seed(1))
    order = permutation(NUM, torch.Generator().manual_seed(1)).long()
    assert strata.bincount().tolist() == [size, size, size, NUM - 3 * size]
    assert strata[order].tolist() == sorted(strata.tolist(), reverse=True)


def test_a_draw_of_strata_keeps_as_many_as_it_says_of_each():
    strata = torch.from_numpy(np.random.default_rng(2).integers(0, 4, NUM).astype(np.uint8))
    keep = KeepProbabilities(torch.tensor([0.1, 0.5, 1.0, 0.25]), strata)
    selection = draw(keep, torch.Generator().manual_seed(0))
    sizes, kept = strata.bincount(), strata[selection.indices].bincount()
    assert (kept - (sizes * keep.probabilities)).abs().max() <= 1
    weights = selection.weights[selection.indices]
    torch.testing.assert_close(weights, (sizes / kept)[strata[selection.indices].long()].float())
