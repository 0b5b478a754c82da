"""Tables: their parts, and what is told of them."""

import os

import pytest
import torch

from helpers.tables import columns, flights, write
from infobatch.lab.data import load_data


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


def test_many_whole_numbers_that_are_classes_are_told_of(tmp_path):
    for number, is_told in ((20, False), (21, True)):
        prices = [100 + i % number for i in range(400)]
        for split in ("train", "test"):
            write(tmp_path / str(number), "mine", split, columns(400, 0, price=prices))
        data = load_data("table", tmp_path / str(number) / "mine", target="price")
        told = f"price has {number} values, each of which is a class; numbers are predicted by --task"
        assert any(told in note for note in data.notes) == is_told


def test_columns_to_leave_out_may_have_commas_between_them(tmp_path):
    rows = "".join(f"{n},{n + 1},{n * 2},{n % 2}\n" for n in range(8))
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text(f'amount,hour,"a,b",fraud\n{rows}')
    for leave_out in (("amount,hour",), ("amount", "hour")):
        assert load_data("table", tmp_path, target="fraud", leave_out=leave_out).schema.numbers == (
            "a,b",
        )
    assert "a,b" not in load_data("table", tmp_path, target="fraud", leave_out=("a,b",)).schema.numbers
    with pytest.raises(ValueError, match="'fraud' is to be left out, and is what is predicted; name"):
        load_data("table", tmp_path, target="fraud", leave_out=("amount,fraud",))


def test_all_files_that_rows_are_read_from_are_told_of(tmp_path):
    for name, number in (("train", 5), ("train_old", 3), ("test", 2)):
        rows = "".join(f"{n},{n % 2}\n" for n in range(number))
        (tmp_path / f"{name}.csv").write_text(f"amount,fraud\n{rows}")
    data = load_data("table", tmp_path, target="fraud")
    told = "rows to train on, and 2 to test on, of 3 files (train.csv, train_old.csv, test.csv)"
    assert data.notes[0] == f"8 {told}"
    assert data.split(0.0, 6).notes[0] == f"6 {told}"


def test_columns_in_which_no_rows_that_are_trained_on_differ_are_told_of(tmp_path):
    for split, year in (("train", 2023), ("test", 2024)):
        rows = "".join(f"{n},{year},,{'' if n else 1},{n % 2}\n" for n in range(4))
        (tmp_path / f"{split}.csv").write_text(f"amount,year,late,first,fraud\n{rows}")
    assert load_data("table", tmp_path, target="fraud").notes[1:3] == (
        "fraud is learned from numbers amount, first",
        "nothing is learned from year, late: no two of the rows that are trained on differ there",
    )


def test_columns_whose_values_most_test_rows_share_with_none_trained_on_are_told_of(tmp_path):
    for split, countries in (("train", "DE,FR,"), ("test", "de,,DE")):
        rows = zip(countries.split(","), ["a", "", ""], range(3), strict=True)
        text = "".join(f"{country},{city},{n},{n % 2}\n" for country, city, n in rows)
        (tmp_path / f"{split}.csv").write_text(f"country,city,amount,fraud\n{text}")
    data = load_data("table", tmp_path, target="fraud")
    told = "most test rows have a value in country that no row trained on has, or none: see that all"
    assert data.notes[2].startswith(told)
    held_out = load_data("table", tmp_path / "train.csv", target="fraud", holds_out=True)
    assert not any("most test rows" in note for note in held_out.notes)


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
