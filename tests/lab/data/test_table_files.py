"""Files of tables: their names, their marks between values, and what cannot be read."""

import pyarrow.parquet as pq
import pytest
import torch
from pyarrow import csv

from helpers.images import cifar10
from helpers.tables import flights
from infobatch.lab.data import load_data
from infobatch.lab.data.table_files import is_table, named_table, read_table


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
        ("x,y\na,0\nb,1\n", "x,y\ncaf\xe9,0\n", r"test\.csv has text that is not UTF-8"),
        ("\xe9,y\n1,0\n2,1\n", "", r"train\.csv has text that is not UTF-8"),
    ],
    ids=[
        "text for classes",
        "fractions for classes",
        "two of a name",
        "latin text",
        "latin text to test on",
        "latin name",
    ],
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


def test_malformed_parquet_is_named(tmp_path):
    cifar10(tmp_path)
    (tmp_path / "cifar10" / "train.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(ValueError, match=r"train\.parquet is not a readable parquet file"):
        load_data("cifar10", tmp_path)


def test_missing_column_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"train\.parquet has no column 'img' among image, label"):
        load_data("cifar10", cifar10(tmp_path, column="image"))


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_values_that_are_not_parted_by_commas_are_told_so(tmp_path, mark):
    table = tmp_path / "own.csv"
    table.write_text("amount,label\n1.5,a\n".replace(",", mark))
    with pytest.raises(ValueError, match=r"own\.csv has one column, 'amount.*part its values by commas"):
        read_table(table, ("label",))


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.tsv", "ROWS.XLSX", "rows.parquet.zst"])
def test_tables_of_other_kinds_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert is_table(f"{name}:label")
    with pytest.raises(ValueError, match=r"is no \.parquet or \.csv file; unpack it, or save it as one"):
        named_table(f"{tmp_path / name}:label")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_text_in_utf_16_is_named(tmp_path, encoding):
    mark = "" if encoding == "utf-16" else "\ufeff"
    (tmp_path / "rows.csv").write_text(f"{mark}a,b\n1,2\n", encoding=encoding)
    with pytest.raises(ValueError, match=r"rows\.csv is in UTF-16; save it as CSV in UTF-8"):
        read_table(tmp_path / "rows.csv", ())
