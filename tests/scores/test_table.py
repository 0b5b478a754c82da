"""A table of scores: made of losses, and a part of it."""

import numpy as np
import pytest
import torch

from infobatch.scores import ScoreTable
from infobatch.scores.columns import NO_SCORE


def test_a_table_of_given_losses():
    table = ScoreTable.from_losses([1.0, float("nan"), 3.0])
    assert len(table) == 3
    assert table.columns == ("last_loss", "visits")
    assert table["visits"].tolist() == [1, 0, 1]
    assert table.num_nonfinite == 0


def test_a_part_of_a_table_has_the_rows_that_were_named():
    table = ScoreTable(5, ["last_loss", "visits", "smoothed_loss"])
    table.record(np.array([1, 3]), np.array([2.0, 4.0], np.float32))
    part = table.part(np.array([3, 0, 1]))
    assert len(part) == 3
    assert part.columns == table.columns
    assert part["last_loss"].nan_to_num(-1).tolist() == [4, -1, 2]
    assert part["visits"].tolist() == [1, 0, 1]
    part.record(np.array([1]), np.array([9.0], np.float32))
    assert table["last_loss"][0].isnan()


def test_a_column_that_is_written_keeps_its_dtype_and_tells_the_time():
    table = ScoreTable(3, ["last_loss", "visits", "recent_norms", "trained_at"])
    table.record(np.array([0]), np.array([1.0], np.float32), np.array([1.0], np.float32))
    table.write("visits", np.array([3.0, 0.0, 1.0]))
    table.write("recent_norms", np.arange(6).reshape(3, 2))
    table.write("trained_at", np.array([4, 9, 0]))
    assert table["visits"].tolist() == [3, 0, 1]
    assert table["visits"].dtype == torch.int32
    assert table["recent_norms"].tolist() == [[0, 1], [2, 3], [4, 5]]
    table.record(np.array([2]), np.array([1.0], np.float32), np.array([1.0], np.float32))
    assert table["trained_at"].tolist() == [4, 9, 10]


def test_a_column_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(KeyError, match="no column 'gradient_norm', only last_loss, visits"):
        ScoreTable(2, ["last_loss", "visits"])["gradient_norm"]


def test_a_sample_that_is_trained_without_a_score_counts_as_trained():
    table = ScoreTable(4, ["last_loss", "visits", "trained_at"])
    losses = np.array([1.0, NO_SCORE, np.nan], np.float32)
    for time in (1, 2):
        table.record(np.arange(3), losses)
        assert table["visits"].tolist() == [time, time, time, 0]
        assert table["trained_at"].tolist() == [time, time, time, 0]
    table.observe(np.arange(4), np.ones(4, np.float32))
    assert table["visits"].tolist() == [2, 2, 2, 0]
    assert table.num_nonfinite == 2


def test_groups_have_the_means_of_their_samples_in_columns_of_any_kind():
    table = ScoreTable(4, ["last_loss", "visits", "recent_norms"])
    table.write("last_loss", np.array([1.0, 2.0, np.nan, 5.0]))
    table.write("visits", np.array([1, 2, 2, 7]))
    table.write("recent_norms", np.array([[1, 2], [np.nan, 4], [3, 4], [5, 6]]))
    means = table.means_of(np.array([0, 0, 0, 2]), 3)
    assert means["last_loss"].nan_to_num(-1).tolist() == [1.5, -1, 5]
    assert means["visits"].tolist() == [2, 0, 7], "5 / 3 is rounded, not cut"
    assert means["recent_norms"].nan_to_num(-1).flatten().tolist() == pytest.approx(
        [2, 10 / 3, -1, -1, 5, 6]
    )


def test_columns_of_an_epoch_begin_anew_and_decide_nothing():
    table = ScoreTable(3)
    table.add(["epoch_loss", "epoch_margin"])
    values = np.array([1.0, 2.0], np.float32)
    table.record(np.array([0, 2]), values, np.array([np.inf, 0.5], np.float32))
    assert table["last_loss"].nan_to_num(-1).tolist() == [1, -1, 2], "whatever the margin"
    assert table["epoch_loss"].nan_to_num(-1).tolist() == [1, -1, 2]
    assert table.num_nonfinite == 0
    assert (table.signals, table.observed_signals) == (("margins",), ())
    table.observe(np.array([1]), np.array([5.0], np.float32))
    table.begin_epoch()
    assert table["epoch_loss"].isnan().all()
    assert table["last_loss"].tolist() == [1, 5, 2]
