"""Files that are missing, damaged or of other columns."""

import pytest

from helpers.images import cifar10
from infobatch.lab.data import load_data, parquet


def test_missing_files_name_the_folders_searched(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no train\*\.parquet.*download them from"):
        load_data("cifar10", tmp_path)


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
        parquet.read(table, ("label",))
