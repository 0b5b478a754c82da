"""Kakurenbo hides the lowest losses that are known with confidence."""

import numpy as np
import pytest

from helpers import request
from infobatch.policies import Kakurenbo
from infobatch.scores import ScoreTable
from infobatch.selection import select

NAN = float("nan")


def hidden(policy, losses, confidences, *arguments, **options):
    table = ScoreTable(len(losses), ["last_loss", "visits", "confidence"])
    rows = [np.array(row, np.float32) for row in (losses, confidences)]
    table.record(np.arange(len(losses)), *rows)
    return select(policy, table, request(*arguments, **{"prunable": range(1, 100), **options})).weights


LOSSES = [0.1, 0.2, 0.3, 0.4, 0.5, 2.0, 2.1, 2.2, 2.3, 2.4]


CONFIDENCES = [0.9, 0.6, 0.75, 0.9, 0.9, 0.1, 0.1, 0.1, 0.8, 0.1]


def test_kakurenbo_hides_the_lowest_that_are_known_with_confidence():
    """Of F N = 4 lowest (0, 1, 2, 3) sample 1 moves back, for its confidence is below 0.7."""
    weights = hidden(Kakurenbo(0.4), LOSSES, CONFIDENCES)
    assert (weights == 0).nonzero().flatten().tolist() == [0, 2, 3]
    assert set(weights[weights > 0].tolist()) == {np.float32(10 / 7)}  # the learning rate x 1 / (1 - F)


def test_kakurenbos_share_falls_with_the_run():
    shares = {}
    for epoch in range(10):
        shares[epoch] = Kakurenbo(0.5).share(request(epoch=epoch, prunable=range(1, 10)))
    assert list(shares.values()) == pytest.approx([0.5] * 3 + [0.4] * 3 + [0.3] * 2 + [0.2] * 2)
    late = hidden(Kakurenbo(0.5), LOSSES, CONFIDENCES, epoch=8, prunable=range(1, 10))
    assert (late == 0).nonzero().flatten().tolist() == [0]  # of 0 and 1


@pytest.mark.parametrize(
    ("num_pruned", "expected"),
    [(0, []), (3, [0, 2, 3]), (5, [0, 2, 3, 4, 8]), (7, [0, 1, 2, 3, 4, 5, 8])],
)
def test_kakurenbo_to_a_number_takes_what_does_not_qualify_last(num_pruned, expected):
    weights = hidden(Kakurenbo(0.4), LOSSES, CONFIDENCES, num_pruned)
    assert (weights == 0).nonzero().flatten().tolist() == expected
    assert weights[9] == np.float32(10 / (10 - num_pruned))


def test_kakurenbo_hides_none_that_it_does_not_know():
    assert (hidden(Kakurenbo(0.4), [NAN] * 5, [0.9] * 5) == 1).all()
    weights = hidden(Kakurenbo(0.4), [0.1, NAN, 0.2], [0.1, 0.9, 0.1], 2)
    assert weights.tolist() == [0, 3, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Kakurenbo(0.3, 0.3), "confidence is 0.3; .*at least 0.5"),
        (lambda: Kakurenbo(1.0), "prune_ratio is 1.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
