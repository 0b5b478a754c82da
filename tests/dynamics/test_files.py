"""Files of recorded epochs: what is in them, and what a damaged one says."""

import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from helpers.dynamics import epoch_of
from infobatch.dynamics import EpochRecord, files, read_dynamics
from infobatch.dynamics.files import rounded, write_epoch


def test_a_file_has_a_row_for_each_sample_trained(tmp_path):
    write_epoch(tmp_path, epoch_of(3, {1: 0.5, 4: 0.25}), None, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00003.parquet"]
    schema = pq.read_schema(tmp_path / "epoch-00003.parquet")
    assert {field.name: str(field.type) for field in schema} == {
        "epoch": "int32",
        "index": "int64",
        "loss": "float",
    }
    rows = pd.read_parquet(tmp_path).to_dict("list")
    assert rows == {"epoch": [3, 3], "index": [1, 4], "loss": [0.5, 0.25]}


def test_what_is_written_comes_back(tmp_path):
    index = np.array([0, 2, 3])
    margin = np.array([1.5, -2, 0], np.float32)
    loss = np.array([0.25, np.nan, 8], np.float32)
    write_epoch(tmp_path, EpochRecord(0, 5, 7, index, loss, margin, margin), None, 1)
    record = read_dynamics(tmp_path)[0]
    assert (record.epoch, record.num_samples, record.seed) == (0, 5, 7)
    assert np.array_equal(record.index, index)
    assert np.array_equal(record.loss, loss, equal_nan=True)
    assert record.margin.dtype == np.float32
    assert np.array_equal(record.margin, margin)
    assert np.array_equal(record.confidence, margin)


def test_losses_that_are_not_finite_are_null(tmp_path):
    path = write_epoch(tmp_path, epoch_of(0, {0: np.nan, 1: np.inf, 2: 1}), None, 1)
    assert pq.read_table(path)["loss"].to_pylist() == [None, None, 1.0]


@pytest.mark.parametrize(("mantissa_bits", "within"), [(6, 1 / 128), (5, 1 / 64)])
def test_numbers_lie_near_what_was_recorded(mantissa_bits, within):
    values = np.exp(np.random.default_rng(0).normal(scale=8, size=10_000)).astype(np.float32)
    values[:5_000] *= -1
    errors = rounded(values, mantissa_bits) / values - 1
    assert within / 2 < np.abs(errors).max() < within
    assert np.abs(errors.mean()) < 4e-4
    ties = np.array([1 + within, 1 + 3 * within], np.float32)
    assert rounded(ties, mantissa_bits).tolist() == [1, 1 + 4 * within]


def test_long_epochs_are_written_group_by_group(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROW_GROUP", 2)
    path = write_epoch(tmp_path, epoch_of(0, dict.fromkeys(range(5), 1.0)), None, 1)
    assert pq.ParquetFile(path).num_row_groups == 3
    assert read_dynamics(tmp_path)[0].index.tolist() == [0, 1, 2, 3, 4]


def test_an_epoch_of_several_ranks_is_one(tmp_path):
    write_epoch(tmp_path, epoch_of(0, {1: 0.5, 3: 2}), 0, 2)
    write_epoch(tmp_path, epoch_of(0, {0: 4, 2: 8}), 1, 2)
    record = read_dynamics(tmp_path)[0]
    assert record.index.tolist() == [0, 1, 2, 3]
    assert record.loss.tolist() == [4, 0.5, 8, 2]
    (tmp_path / "epoch-00000-rank-1.parquet").unlink()
    with pytest.raises(ValueError, match=r"epoch 0 in .* should have 2 file\(s\).* has 1; put those of"):
        read_dynamics(tmp_path).signals()


def test_a_damaged_file_is_named(tmp_path):
    path = write_epoch(tmp_path, epoch_of(0, dict.fromkeys(range(500), 1.0)), None, 1)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"epoch-00000.parquet cannot be read .* is damaged.*Copy it"):
        read_dynamics(tmp_path).signals()


def test_other_parquet_is_no_recorded_epoch(tmp_path):
    pd.DataFrame({"index": [0]}).to_parquet(tmp_path / "epoch-00000.parquet")
    with pytest.raises(ValueError, match=r"is no recorded epoch; this infobatch reads"):
        read_dynamics(tmp_path).signals()


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"need pyarrow: pip install 'infobatch\[parquet\]'"):
        write_epoch(tmp_path, epoch_of(0, {0: 1.0}), None, 1)
