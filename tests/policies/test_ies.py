"""IES stops samples whose loss curve no longer bends."""

import numpy as np
import pytest

from helpers import request
from infobatch.batching import EpochSizes
from infobatch.policies import IES
from infobatch.policies.ies import mean_bends
from infobatch.scores import ScoreTable
from infobatch.selection import select

NAN = float("nan")


def test_the_mean_second_difference_is_that_of_an_example():
    # |4 - 2 x 2 + 1| = 1, |2 - 2 x 1 + 3| = 3, |1 - 2 x 3 + 3| = 2
    rows = [[4, 2, 1, 3, 3], [NAN, 2, 1, 3, 3], [NAN, NAN, 1, 3, 3], [NAN, NAN, NAN, 3, 3]]
    assert mean_bends(np.array(rows)).tolist() == pytest.approx([2, 2.5, 2, NAN], nan_ok=True)


def table_of_histories(rows):
    """A table that has recorded each row's losses one after another, from the first that is known."""
    table = ScoreTable(len(rows), ["last_loss", "recent_losses", "visits"])
    for column in np.array(rows, np.float32).T:
        known = np.flatnonzero(~np.isnan(column))
        table.record(known, column[known])
    return table


HISTORIES = [
    [2.0, 1.0, 0.5, 0.25, 0.125],  # bends by 0.5, 0.25, 0.125
    [1.0, 0.9, 0.8, 0.7, 0.6],  # straight
    [0.3, 0.3, 0.3, 0.3, 0.33],  # 0, 0, 0.03
    [NAN, 0.5, 0.5, 0.5, 0.5],  # flat, but only twice so
    [0.0, 0.0, 0.1, 0.0, 0.0],  # 0.1, 0.2, 0.1
]


def test_ies_stops_what_no_longer_bends():
    def kept(threshold, **options):
        return select(IES(threshold), table_of_histories(HISTORIES), request(**options)).indices.tolist()

    assert kept(1e-3) == [0, 2, 3, 4]
    assert kept(0.02) == [0, 3, 4]
    assert kept(0.2) == [0, 3]
    assert kept(10) == [3]
    assert kept(0.02, epoch_sizes=EpochSizes(2)) in ([0, 4, 3, 2], [0, 2, 3, 4], [0, 3])


def test_ies_lets_a_sample_return():
    table = table_of_histories(HISTORIES)
    table.observe(np.array([1]), np.array([1.5], np.float32))  # bends by 1.0
    assert 1 in select(IES(1e-3), table, request()).indices.tolist()


@pytest.mark.parametrize(("num_pruned", "kept"), [(0, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (4, [0])])
def test_ies_to_a_number_takes_the_straightest(num_pruned, kept):
    selection = select(IES(), table_of_histories(HISTORIES), request(num_pruned))
    assert selection.indices.tolist() == kept
    assert set(selection.weights[kept].tolist()) == {1}


def test_ies_to_a_number_knows_nothing_at_first():
    table = table_of_histories([[NAN, NAN, NAN, 1.0, float(i)] for i in range(8)])
    drawn = {tuple(select(IES(), table, request(4, seed)).indices.tolist()) for seed in range(20)}
    assert len(drawn) > 10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IES(0), "threshold is 0; .*a number above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
