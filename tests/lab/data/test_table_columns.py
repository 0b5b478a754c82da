"""The columns of a table's files: their types, the same in all files, and what they may not hold."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from helpers.tables import columns, flights, write
from infobatch.lab.data import load_data
from infobatch.lab.data.schema import Schema


def test_columns_are_numbers_or_categories_by_their_types(tmp_path):
    data = load_data("flights", flights(tmp_path))
    assert data.schema == Schema(("hour", "wind", "holiday"), ("carrier", "origin"), "cancelled")
    assert (len(data.train), len(data.test), data.num_codes) == (200, 60, (4, 3))
    assert data.class_names == ("flown", "cancelled")
    first = columns(120, 0)
    assert data.train.numbers[:120, 0].tolist() == first["hour"].to_pylist()
    assert data.train.numbers[:6, 1].isnan().tolist() == [True, False, False, True, False, False]
    assert data.train.numbers[:4, 2].tolist() == [1, 0, 1, 0]
    assert data.train.codes[:5].tolist() == [[1, 2], [2, 1], [3, 2], [0, 1], [1, 2]]
    second = columns(80, 1)
    assert data.train_labels.tolist() == [
        *first["cancelled"].to_pylist(),
        *second["cancelled"].to_pylist(),
    ]


def test_a_category_that_training_does_not_have_is_unknown(tmp_path):
    flights(tmp_path)
    write(tmp_path, "flights", "test", columns(4, 0, carrier=pa.array(["Z", "A", None, "C"])))
    assert load_data("flights", tmp_path).test.codes[:, 0].tolist() == [0, 1, 0, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"when": pa.array([[1, 2]] * 8)},
            r"column 'when' in .*train\.parquet has type list.*; write it as numbers or as text",
        ),
        (
            {"cancelled": pa.array([0.0, 0.5] * 4)},
            r"the target 'cancelled' in .*train\.parquet has type double; classes must be text",
        ),
        ({"cancelled": pa.array([1] * 8)}, r"'cancelled' is 1 in all rows of .*two classes or more"),
        (
            {"cancelled": pa.array([0, 1, None, 0, 0, 0, 0, 0])},
            r"row 2 \(from 0\) of .*train\.parquet has no cancelled, which is to be predicted; leave",
        ),
        (
            {"cancelled": pa.array([0.0, 1.0, np.nan, 0, 0, 0, 0, 0])},
            r"row 2 \(from 0\) of .*train\.parquet has no cancelled, which is to be predicted; leave",
        ),
        (
            {"cancelled": pa.array([0.0, 1.0, np.inf, 0, 0, 0, 0, 0])},
            r"the target 'cancelled' in .*train\.parquet has type double; classes must be text",
        ),
        (
            {"wind": pa.array([1.0] * 5 + [np.inf] + [2.0] * 2)},
            r"row 5 \(from 0\) of .*train\.parquet has the wind inf; numbers must be finite, or missing",
        ),
    ],
    ids=["lists", "fractions", "one class", "no class", "NaN", "infinite class", "infinite"],
)
def test_columns_that_cannot_be_used_are_named(tmp_path, changes, message):
    write(tmp_path, "flights", "train", columns(8, 0, **changes))
    write(tmp_path, "flights", "test", columns(8, 1))
    with pytest.raises(ValueError, match=message):
        load_data("flights", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"cancelled": pa.array([0, 0, 2, 0])},
            r"row 2 \(from 0\) of .*test\.parquet has the cancelled 2",
        ),
        ({"wind": pa.array(list("abcd"))}, r"column 'wind' in .*test\.parquet does not hold numbers"),
    ],
    ids=["class", "kind"],
)
def test_test_files_are_like_the_training_files(tmp_path, changes, message):
    flights(tmp_path)
    write(tmp_path, "flights", "test", columns(4, 0, **changes))
    with pytest.raises(ValueError, match=message):
        load_data("flights", tmp_path)


def test_a_column_that_only_the_training_file_has_is_named(tmp_path):
    flights(tmp_path)
    made = columns(4, 0)
    del made["wind"]
    write(tmp_path, "flights", "test", made)
    with pytest.raises(ValueError, match=r"test\.parquet has no column 'wind' among"):
        load_data("flights", tmp_path)


def test_files_whose_columns_differ_are_named(tmp_path):
    flights(tmp_path)
    write(tmp_path, "flights", "train-1", columns(4, 0, carrier=pa.array([{"of": "A"}] * 4)))
    with pytest.raises(
        ValueError, match=r"column 'carrier' has other types in .*train-0.* and .*train-1"
    ):
        load_data("flights", tmp_path)


def test_dates_and_times_are_numbers(own_file):
    data = load_data("table", own_file, target="fraud", holds_out=True)
    assert data.schema.numbers == ("day", "at", "amount")
    days, seconds, _ = data.train.numbers.T
    first = (datetime.date(2026, 1, 1) - datetime.date(1970, 1, 1)).days
    assert (days[[0, 1, 3]] / 86400 - first).tolist() == [0, 2, 31]
    assert (seconds[[0, 1, 3]] - days[[0, 1, 3]]).tolist() == [1, 1, 1]
    assert days.isnan().tolist() == seconds.isnan().tolist() == [False, False, True, False]


MORNING = datetime.datetime(2026, 1, 31, 6, 0, 1)


FIRST = datetime.datetime(1970, 1, 1)


@pytest.mark.parametrize(
    ("trained", "tested", "value", "other"),
    [
        (pa.timestamp("s"), pa.timestamp("ns"), MORNING, MORNING),
        (pa.timestamp("ns"), pa.timestamp("us"), MORNING, MORNING),
        (pa.date32(), pa.timestamp("ms"), MORNING.date(), MORNING),
        (pa.timestamp("us", tz="UTC"), pa.date64(), MORNING, MORNING.date()),
        (pa.time32("s"), pa.time64("ns"), MORNING.time(), MORNING.time()),
        (pa.duration("ms"), pa.duration("s"), MORNING - FIRST, MORNING - FIRST),
    ],
)
def test_dates_and_times_of_several_files_have_one_unit(tmp_path, trained, tested, value, other):
    fraud = pa.array([0, 1])
    write(tmp_path, "table", "train-0", {"at": pa.array([value, None], trained), "fraud": fraud})
    for place in ("train-1", "test"):
        write(tmp_path, "table", place, {"at": pa.array([other, None], tested), "fraud": fraud})
    data = load_data("table", tmp_path, target="fraud")
    of_day = 6 * 3600 + 1
    midnight = 0 if pa.types.is_time(trained) else (MORNING - FIRST).total_seconds() - of_day
    ours, theirs = (midnight + (0 if type(each) is datetime.date else of_day) for each in (value, other))
    assert data.train.numbers[[0, 2], 0].tolist() == [ours, theirs]
    assert data.test.numbers[0, 0] == theirs


def test_a_column_without_a_value_is_missing_throughout(tmp_path):
    (tmp_path / "own.csv").write_text("a,b,fraud\n1,,0\n2,NA,1\n")
    data = load_data("table", tmp_path / "own.csv", target="fraud", holds_out=True)
    assert data.train.numbers.isnan().tolist() == [[False, True]] * 2


TEXTS = ("train-0", "00012,True,b\nK1A,Maybe,01\n"), ("train-1", "00012,True,01\n")


def test_text_of_the_first_file_is_text_in_all_however_it_looks(tmp_path):
    for name, rows in (*TEXTS, ("test", "00012,True,01\n")):
        (tmp_path / f"{name}.csv").write_text(f"zip,flag,kind\n{rows}")
    data = load_data("table", tmp_path, target="kind")
    assert data.categories == (("00012", "K1A"), ("Maybe", "True"))
    assert data.train.codes.tolist() == [[1, 2], [2, 1], [1, 2]]
    assert data.test.codes.tolist() == [[1, 2]]
    assert (data.class_names, data.test.labels.tolist()) == (("01", "b"), [0])


def test_files_that_do_not_fit_the_first_are_named(tmp_path):
    for name, rows in (("train", "5,a\n6,b\n"), ("test", "K1A,a\n")):
        (tmp_path / f"{name}.csv").write_text(f"zip,kind\n{rows}")
    with pytest.raises(ValueError, match=r"column 'zip' in .*test\.csv does not hold numbers, as in"):
        load_data("table", tmp_path, target="kind")
