"""Parquet files that are missing, damaged or of other columns."""

import pytest

from helpers.images import cifar10
from infobatch.lab.data import load_data


def test_missing_files_name_the_folders_searched(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no train\*\.parquet.*download them from"):
        load_data("cifar10", tmp_path)


def test_malformed_parquet_is_named(tmp_path):
    cifar10(tmp_path)
    (tmp_path / "cifar10" / "train.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(ValueError, match=r"train\.parquet is not a readable parquet file"):
        load_data("cifar10", tmp_path)


def test_missing_column_is_named(tmp_path):
    with pytest.raises(ValueError, match="no 'img'; cifar10 needs 'img' and 'label'"):
        load_data("cifar10", cifar10(tmp_path, column="image"))
