"""Tables in local files: where they lie, what is predicted, and what is not learned from."""

import pyarrow as pa
import pytest
from pyarrow import csv

from helpers.tables import columns, flights, write
from infobatch.lab.data import load_data
from infobatch.lab.data.schema import Schema


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


def test_what_only_flown_flights_have_is_not_learned_from(tmp_path):
    assert "dep_delay" not in load_data("flights", flights(tmp_path)).schema.columns


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


def test_a_table_without_columns_is_refused(tmp_path):
    for split in ("train", "test"):
        write(tmp_path, "flights", split, {"cancelled": [0, 1]})
    with pytest.raises(ValueError, match=r"train\.parquet has no column to learn 'cancelled' from"):
        load_data("flights", tmp_path)


def test_a_missing_folder_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("INFOBATCH_DATA_DIR", raising=False)
    with pytest.raises(FileNotFoundError, match="shuttle is not downloaded; give --data-dir a folder"):
        load_data("shuttle")


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


def test_whole_floats_are_classes(tmp_path):
    data = own_data(tmp_path, {**IDS, "fraud": [0.0, 1.0] * 150})
    assert data.class_names == ("0", "1")
    with pytest.raises(ValueError, match=r"row 3 \(from 0\) of .* has no fraud, which is to be"):
        own_data(tmp_path, {**IDS, "fraud": [0.0, 1.0, 1.0, "", *[1.0] * 296]})
