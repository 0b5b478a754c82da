"""Tables: what their columns are, their classes, and what cannot be learned from."""

import datetime
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyarrow import csv

from helpers.tables import columns, flights, write
from infobatch.lab.data import load_data
from infobatch.lab.data.schema import Schema
from infobatch.lab.data.table_files import is_table, named_table


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


def test_values_with_commas_between_them_are_a_table_like_any_other(tmp_path):
    expected = load_data("flights", flights(tmp_path / "parquet"))
    for path in sorted((tmp_path / "parquet/flights").iterdir()):
        target = tmp_path / "csv/flights" / f"{path.stem}.csv"
        target.parent.mkdir(parents=True, exist_ok=True)
        csv.write_csv(pq.read_table(path), target)
    data = load_data("flights", tmp_path / "csv")
    assert (data.schema, data.num_codes) == (expected.schema, expected.num_codes)
    for split in ("train", "test"):
        rows, others = getattr(data, split), getattr(expected, split)
        assert torch.equal(rows.codes, others.codes)
        assert torch.equal(rows.labels, others.labels)
        torch.testing.assert_close(rows.numbers, others.numbers, equal_nan=True)


def test_a_table_in_two_kinds_of_files_would_count_twice(tmp_path):
    made = columns(8, 0)
    csv.write_csv(pa.table(made), write(tmp_path, "flights", "train", made).with_suffix(".csv"))
    write(tmp_path, "flights", "test", made)
    with pytest.raises(ValueError, match=r"has train\.parquet and train\.csv: the same rows twice"):
        load_data("flights", tmp_path)


def test_rows_may_be_held_out_of_a_table_without_a_test_part(tmp_path):
    write(tmp_path, "mine", "train", columns(50, 0))
    options = {"target": "cancelled"}
    with pytest.raises(
        FileNotFoundError, match=r"no train.* and test.*; or hold a part of the rows out"
    ):
        load_data("table", tmp_path / "mine", **options)
    data = load_data("table", tmp_path / "mine", holds_out=True, **options).split(0.2, 0)
    assert (len(data.train), len(data.test)) == (40, 10)


def test_a_csv_file_that_is_cut_off_is_named(tmp_path):
    for split, text in (("train", "v,cancelled\n1,0\n2\n"), ("test", "v,cancelled\n1,0\n")):
        path = tmp_path / "flights" / f"{split}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    with pytest.raises(ValueError, match=r"train\.csv is not a readable csv file \(.*; part values by"):
        load_data("flights", tmp_path)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("x,y\n1,0\n2,1\n", "x,y\n1,?\n", r"column 'y' in .*test\.csv has other values than in"),
        ("x,y\n1,0\n2,1\n", "x,y\n1,0.5\n", r"column 'y' has other types in .*test\.csv"),
        ("x,x,y\n1,1,0\n2,2,1\n", "", r"train\.csv has several columns 'x'; give each a name"),
        ("x,y\ncaf\xe9,0\nb,1\n", "", r"train\.csv has text that is not UTF-8; save it as CSV in UTF-8"),
        ("\xe9,y\n1,0\n2,1\n", "", r"train\.csv has text that is not UTF-8"),
    ],
    ids=["text for classes", "fractions for classes", "two of a name", "latin text", "latin name"],
)
def test_what_is_wrong_with_a_csv_file_is_said(tmp_path, train, test, message):
    (tmp_path / "train.csv").write_text(train, encoding="latin-1")
    (tmp_path / "test.csv").write_text(test or train, encoding="latin-1")
    with pytest.raises(ValueError, match=message):
        load_data("table", tmp_path, target="y")


def test_the_names_of_the_rows_of_pandas_are_not_learned_from(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(",x,y\n0,3,a\n1,4,b\n")
    assert load_data("table", tmp_path, target="y").schema.numbers == ("x",)


def test_what_only_flown_flights_have_is_not_learned_from(tmp_path):
    assert "dep_delay" not in load_data("flights", flights(tmp_path)).schema.columns


def test_a_category_that_training_does_not_have_is_unknown(tmp_path):
    flights(tmp_path)
    write(tmp_path, "flights", "test", columns(4, 0, carrier=pa.array(["Z", "A", None, "C"])))
    assert load_data("flights", tmp_path).test.codes[:, 0].tolist() == [0, 1, 0, 3]


def test_classes_are_the_targets_values_in_their_order(tmp_path):
    values = ["High", "Bypass", "High", "Rad.Flow"]
    for split in ("train", "test"):
        write(tmp_path, "shuttle", split, {"v1": [1.0, 2.0, 3.0, 4.0], "class": values})
    data = load_data("shuttle", tmp_path)
    assert data.class_names == ("Bypass", "High", "Rad.Flow")
    assert data.test.labels.tolist() == [1, 0, 1, 2]
    assert data.test.codes.shape == (4, 0)
    assert data.schema.columns == ("v1", "class")


def test_a_table_of_ones_own_lies_in_its_folder_and_has_the_target_that_is_given(tmp_path):
    made = columns(8, 0, __index_level_0__=pa.array(range(8)))
    for split in ("train", "test"):
        write(tmp_path, "mine", split, made)
    options = {"target": "origin", "leave_out": ("dep_delay", "cancelled")}
    data = load_data("table", tmp_path / "mine", **options)
    assert data.schema == Schema(("hour", "wind", "holiday"), ("carrier",), "origin")
    assert data.class_names == ("EWR", "JFK")
    with pytest.raises(
        ValueError, match=r"no column of .*train\.parquet 'dep_dela'; did you mean dep_delay"
    ):
        load_data("table", tmp_path / "mine", target="origin", leave_out=("dep_dela",))
    with pytest.raises(ValueError, match="has no column 'churned' among"):
        load_data("table", tmp_path / "mine", target="churned")


def test_a_part_is_of_whole_rows(tmp_path):
    data = load_data("flights", flights(tmp_path))
    part = data.split(0.25, 100)
    assert (len(part.train), len(part.test)) == (100, 50)
    some = data.subset(torch.tensor([3, 7]))
    assert some.train.numbers.nan_to_num().equal(data.train.numbers[[3, 7]].nan_to_num())
    assert some.train.codes.equal(data.train.codes[[3, 7]])
    assert some.train.labels.equal(data.train.labels[[3, 7]])


def test_the_built_in_table_is_whole():
    data = load_data("breast-cancer")
    assert (len(data.train), len(data.test)) == (400, 169)
    assert data.train.numbers.shape == (400, 30)
    assert int(data.train.labels.sum() + data.test.labels.sum()) == 212
    assert data.class_names == ("benign", "malignant")


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
            {"wind": pa.array([1.0] * 5 + [np.inf] + [2.0] * 2)},
            r"row 5 \(from 0\) of .*train\.parquet has the wind inf; numbers must be finite, or missing",
        ),
    ],
    ids=["lists", "fractions", "one class", "no class", "infinite"],
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


def test_a_table_without_columns_is_refused(tmp_path):
    for split in ("train", "test"):
        write(tmp_path, "flights", split, {"cancelled": [0, 1]})
    with pytest.raises(ValueError, match=r"train\.parquet has no column to learn 'cancelled' from"):
        load_data("flights", tmp_path)


def test_a_missing_folder_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("INFOBATCH_DATA_DIR", raising=False)
    with pytest.raises(FileNotFoundError, match="shuttle is not downloaded; give --data-dir a folder"):
        load_data("shuttle")


DAYS = ["2026-01-01", "2026-01-03", "NA", "2026-02-01"]
OWN = "day,at,amount,country,fraud\n" + "".join(
    f"{day},{'' if day == 'NA' else day + ' 00:00:01'},{amount},DE,{amount % 2}\n"
    for amount, day in enumerate(DAYS)
)


@pytest.fixture
def own_file(tmp_path):
    file = tmp_path / "own.csv"
    file.write_text(OWN)
    return file


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


def test_one_file_needs_rows_held_out(own_file):
    with pytest.raises(ValueError, match=r"own\.csv is one file, .* by --held-out 0\.2, or give"):
        load_data("table", own_file, target="fraud")


def test_a_file_of_another_kind_is_no_table(tmp_path):
    (tmp_path / "own.xlsx").write_text("")
    with pytest.raises(ValueError, match=r"own\.xlsx is no table; give a file that ends in \.parquet"):
        load_data("table", tmp_path / "own.xlsx", target="fraud", holds_out=True)


def own_data(tmp_path, columns, target="fraud"):
    file = tmp_path / "own.csv"
    rows = zip(*columns.values(), strict=True)
    file.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]))
    return load_data("table", file, target=target, holds_out=True)


IDS = {"id": [f"TX{n}" for n in range(300)], "amount": range(300), "fraud": [0, 1] * 150}


def test_text_that_hardly_recurs_is_not_learned_from(tmp_path):
    data = own_data(tmp_path, {**IDS, "country": ["DE", "FR", "IT"] * 100})
    assert data.schema.categories == ("country",)
    assert data.ids == ("id",)
    assert data.train.codes.shape == (300, 1)
    assert data.notes[0] == "fraud is learned from numbers amount and categories country"
    assert data.notes[1].startswith("not from id, whose text is another in most rows")


def test_a_table_of_ids_alone_has_nothing_to_learn_from(tmp_path):
    with pytest.raises(ValueError, match=r"own\.csv, where id hardly recur, has no column to learn"):
        own_data(tmp_path, {name: IDS[name] for name in ("id", "fraud")})


def test_what_hardly_recurs_is_no_class(tmp_path):
    with pytest.raises(ValueError, match=r"'id' has 300 values in 300 rows .* are no classes; name"):
        own_data(tmp_path, IDS, "id")


def test_many_whole_numbers_that_are_classes_are_told_of(tmp_path):
    for number, is_told in ((20, False), (21, True)):
        prices = [100 + i % number for i in range(400)]
        for split in ("train", "test"):
            write(tmp_path / str(number), "mine", split, columns(400, 0, price=prices))
        data = load_data("table", tmp_path / str(number) / "mine", target="price")
        told = f"price has {number} values, each of which is a class; numbers are predicted by --task"
        assert any(told in note for note in data.notes) == is_told


def test_whole_floats_are_classes(tmp_path):
    data = own_data(tmp_path, {**IDS, "fraud": [0.0, 1.0] * 150})
    assert data.class_names == ("0", "1")
    with pytest.raises(ValueError, match=r"row 3 \(from 0\) of .* has no fraud, which is to be"):
        own_data(tmp_path, {**IDS, "fraud": [0.0, 1.0, 1.0, "", *[1.0] * 296]})


def test_other_separators_than_commas_are_told_of(tmp_path):
    (tmp_path / "own.csv").write_text("a;fraud\n1,5;0\n")
    with pytest.raises(ValueError, match=r"own\.csv is not a readable csv .*; part values by commas"):
        load_data("table", tmp_path / "own.csv", target="fraud", holds_out=True)


def test_quoted_text_may_have_line_breaks_in_a_file_of_several_blocks(tmp_path):
    said = "\n".join(["a,b", "7,8", "x" * 90])
    rows = [f'"{said} {n % 3}",{n},{n % 2}' for n in range(15_000)]
    (tmp_path / "own.csv").write_text("\n".join(["said,amount,fraud", *rows]))
    data = load_data("table", tmp_path / "own.csv", target="fraud", holds_out=True)
    assert len(data.train) == 15_000
    assert (data.schema.numbers, data.num_codes) == (("amount",), (4,))


def test_a_file_and_a_column_are_named_together(own_file):
    assert is_table(f"{own_file}:fraud")
    assert named_table(f"{own_file}:fraud") == (own_file, "fraud")
    assert named_table(f"{own_file}:is it: fraud?") == (own_file, "is it: fraud?")
    assert is_table("OWN.CSV:fraud")
    assert not is_table("my_script.py:train")
    assert not is_table("flights-mlp")


def test_an_ending_may_be_in_capitals(own_file):
    named = own_file.rename(own_file.with_name("OWN.CSV"))
    assert len(load_data("table", named, target="fraud", holds_out=True).train) == 4


def test_a_file_without_a_column_is_told_which_it_has(own_file):
    with pytest.raises(ValueError, match=r"own\.csv:COLUMN: day, at, amount, country, fraud$"):
        named_table(str(own_file))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*other\.csv; check the name"):
        named_table(f"{own_file.parent / 'other.csv'}:fraud")


@pytest.mark.skipif("INFOBATCH_DATA_DIR" not in os.environ, reason="needs real data")
def test_real_data_is_whole():
    data = load_data("flights")
    assert (len(data.train), len(data.test)) == (269_420, 67_356)
    assert data.schema.categories == ("carrier", "origin", "dest")
    assert len(data.schema.numbers) == 15
    assert data.train_labels.double().mean().item() == pytest.approx(0.0244, abs=1e-4)
    data = load_data("shuttle")
    assert (len(data.train), len(data.test), data.num_classes) == (43_500, 14_500, 7)
    assert data.schema.numbers == tuple(f"v{i}" for i in range(1, 10))
