"""A page shows the samples that it should, and tells their places, values and losses."""

import numpy as np
import pytest

from helpers.dynamics import write_epochs
from helpers.explorer import NUM_EPOCHS, record
from infobatch.dynamics import read_dynamics
from infobatch.dynamics.files import EpochRecord
from infobatch.lab.explorer import histories
from infobatch.lab.explorer.contents import Contents
from infobatch.lab.explorer.facts import LONGEST_TEXT, Facts, choose_shown
from infobatch.lab.explorer.lists import SampleList


def a_list(*indices):
    return SampleList("few", "Few", "Some.", "aum", np.array(indices))


def test_of_a_large_set_the_first_of_each_list_are_shown():
    lists = [a_list(99, 5, 7, 8), a_list(50, 5)]
    shown = choose_shown(100, 8, lists)
    assert len(shown) == 8
    assert {99, 5, 50} <= set(shown.tolist())
    assert shown.tolist() == sorted(set(shown.tolist()))
    assert choose_shown(100, 8, lists).tolist() == shown.tolist()
    assert choose_shown(3, 8, lists).tolist() == [0, 1, 2]


def test_a_list_names_places_on_the_page_in_its_own_order():
    told = Facts(np.array([2, 5, 7]), 10)
    told.add_list(a_list(7, 9, 2))
    assert told.arrays["list-few"].tolist() == [2, 0]
    told.add_pairs(np.array([[2, 9], [2, 5]]), np.array([0.99, 0.96]))
    assert told.arrays["pairs"].tolist() == [0, 1]
    assert told.arrays["similarities"] == pytest.approx([0.96])


def test_columns_of_a_table_are_numbers_or_words():
    table = {"size": np.array([1, 2, 3]), "kind": ["b", "a", "b"], "big": np.array([True, False, True])}
    told = Facts(np.array([1, 2]), 3)
    told.add_contents(Contents(table=table))
    assert told.facts["table"] == [
        {"name": "size"},
        {"name": "kind", "words": ["a", "b"]},
        {"name": "big"},
    ]
    assert [told.arrays[f"column-{k}"].tolist() for k in range(3)] == [[2, 3], [0, 1], [0, 1]]


@pytest.mark.parametrize("values", [[2**62 + 1], [-(2**63)], [np.uint64(2**64 - 1)]])
def test_whole_numbers_that_a_browser_does_not_have_are_words(values):
    told = Facts(np.arange(1), 1)
    told.add_contents(Contents(table={"id": np.array(values)}))
    assert told.facts["table"] == [{"name": "id", "words": [str(values[0])]}]


def test_durations_have_their_unit():
    told = Facts(np.arange(2), 2)
    told.add_contents(Contents(table={"took": np.array([90, 5], "timedelta64[s]")}))
    assert told.facts["table"] == [{"name": "took", "words": ["5 seconds", "90 seconds"]}]


def test_a_column_of_lists_is_one_of_words():
    told = Facts(np.arange(2), 2)
    lists = np.empty(2, dtype=object)
    lists[:] = [[1, 2], [3]]
    told.add_contents(Contents(table={"tokens": lists}))
    assert told.facts["table"] == [{"name": "tokens", "words": ["[1, 2]", "[3]"]}]


def test_long_texts_are_cut():
    told = Facts(np.arange(2), 2)
    told.add_contents(Contents(texts=["a" * 5000, "short"]))
    assert told.facts["texts"] == ["a" * LONGEST_TEXT + "…", "short"]


def test_losses_are_there_epoch_by_epoch_and_gaps_are_none(tmp_path):
    dynamics = read_dynamics(record(tmp_path))
    found = histories.read_histories(dynamics, np.array([3, 30]))
    assert found.epochs == list(range(NUM_EPOCHS))
    assert np.isnan(found.losses[0]).tolist() == [False] * 4 + [True] * 2
    assert found.losses[1].tolist() == [0.5, 0.75] * 3


@pytest.mark.parametrize("loss", [3e-8, 0.5, 70_000, 2.5e10, -4e6])
def test_losses_of_any_size_are_told_as_they_were_recorded(tmp_path, loss):
    """A page has 16 bits of each."""
    recorded = EpochRecord(0, 1, 0, np.array([0]), np.array([loss], np.float32))
    dynamics = read_dynamics(write_epochs(tmp_path / "dynamics", recorded))
    told = Facts(np.arange(1), 1)
    told.add_histories(histories.read_histories(dynamics, np.arange(1)))
    bits = told.arrays["losses"]
    assert bits.dtype == np.uint16
    assert (bits.astype(np.uint32) << 16).view(np.float32).tolist() == [dynamics[0].loss.tolist()]
    assert dynamics[0].loss == pytest.approx(loss, rel=1 / 128)


def test_of_a_long_run_every_kth_epoch_is_shown(tmp_path, monkeypatch):
    dynamics = read_dynamics(record(tmp_path))
    monkeypatch.setattr(histories, "MOST_LOSSES", 7)
    found = histories.read_histories(dynamics, np.array([29, 30]))
    assert found.epochs == [0, 2, 4]
    assert found.losses[1].tolist() == [0.5] * 3


def test_an_epoch_may_have_a_sample_without_a_loss_or_not_have_it_yet(tmp_path):
    nan = np.float32(np.nan)
    folder = write_epochs(
        tmp_path / "dynamics",
        EpochRecord(0, 2, 0, np.array([0, 1]), np.array([1, nan], np.float32)),
        EpochRecord(1, 3, 0, np.array([0, 2]), np.array([2, 3], np.float32)),
    )
    losses = histories.read_histories(read_dynamics(folder), np.arange(3)).losses
    assert losses[0].tolist() == [1, 2]
    assert np.isposinf(losses[1, 0])
    assert np.isnan(losses[1, 1])
    assert np.isneginf(losses[2, 0])
    assert losses[2, 1] == 3
