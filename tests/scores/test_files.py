"""Scores written to a file and read back."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from helpers import Numbers, after_one_epoch, batched_pruner
from infobatch import DynamicPruner, InfoBatch, read_scores


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_scores_come_back_from_a_file(tmp_path, suffix):
    pruner = after_one_epoch()
    path = pruner.export(tmp_path / f"scores.{suffix}")
    assert torch.equal(read_scores(path)["last_loss"], pruner.scores["last_loss"])


def test_a_file_has_a_row_for_each_sample(tmp_path):
    pruner = after_one_epoch()
    pruner.set_epoch(1)
    table = pq.read_table(pruner.export(tmp_path / "scores.parquet"))
    assert table.column_names == ["last_loss", "visits", "weight"]
    assert table["visits"].to_pylist() == [1] * 100
    weights = table["weight"].to_numpy()
    assert np.array_equal(weights, pruner.selection.weights.numpy())
    with np.load(pruner.export(tmp_path / "scores.npz"), allow_pickle=False) as file:
        assert np.array_equal(file["weight"], weights)


def test_a_file_is_given_columns_alone(tmp_path, monkeypatch):
    """Older releases of NumPy write whatever comes with a name."""
    given = {}
    monkeypatch.setattr(np, "savez_compressed", lambda path, **arrays: given.update(arrays))
    after_one_epoch().export(tmp_path / "scores.npz")
    assert list(given) == ["last_loss", "visits", "weight"]


def test_samples_without_a_score_stay_without(tmp_path):
    pruner = DynamicPruner(Numbers(5), 10, policy=InfoBatch())
    pruner.sampler(1)
    pruner.record(torch.tensor([2.0]), [3])
    scores = read_scores(pruner.export(tmp_path / "scores.npz"))
    assert scores["last_loss"].isnan().tolist() == [True, True, True, False, True]
    assert scores["visits"].tolist() == [0, 0, 0, 1, 0]


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_any_float_column_of_losses_is_read(tmp_path, suffix):
    losses = np.array([0.5, np.nan, 2.0])
    path = tmp_path / f"mine.{suffix}"
    if suffix == "npz":
        np.savez(path, last_loss=losses)
    else:
        pq.write_table(pa.table({"last_loss": losses, "name": ["a", "b", "c"]}), path)
    scores = read_scores(path)
    assert scores["last_loss"].dtype == torch.float32
    assert scores["last_loss"].nan_to_num(-1).tolist() == [0.5, -1, 2]


def test_infinite_losses_are_no_scores(tmp_path):
    losses = np.array([0.5, np.inf, 1.0, 2.0, -np.inf])
    np.savez(tmp_path / "mine.npz", last_loss=losses, smoothed_loss=losses)
    scores = read_scores(tmp_path / "mine.npz")
    for column in ("last_loss", "smoothed_loss"):
        assert scores[column].nan_to_num(-1).tolist() == [0.5, -1, 1, 2, -1]
    assert scores["visits"].tolist() == [1, 0, 1, 1, 0]


def test_parquet_without_pyarrow_names_the_extra(tmp_path):
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from infobatch import DynamicPruner, InfoBatch\n"
        f"DynamicPruner(range(3), 2, policy=InfoBatch()).export({str(tmp_path / 'scores.parquet')!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'infobatch[parquet]'" in done.stderr


def test_files_that_are_no_scores(tmp_path):
    with pytest.raises(ValueError, match=r"ends in '\.csv'; name it \.npz or \.parquet"):
        batched_pruner().export(tmp_path / "scores.csv")
    np.savez(tmp_path / "other.npz", loss=np.ones(3))
    with pytest.raises(ValueError, match="has columns loss, but no 'last_loss'"):
        read_scores(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_scores(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"last_loss": ["a", "b"]},
            r"last_loss in .* is of shape \(2,\) and dtype <U1; it must have one",
        ),
        ({"last_loss": np.float32(1)}, r"last_loss in .* is of shape \(\)"),
        ({"last_loss": np.ones((2, 2))}, r"last_loss in .* is of shape \(2, 2\)"),
        ({"last_loss": np.ones(2), "visits": np.ones(3)}, r"visits in .* \(3,\) .* each of 2 samples"),
    ],
)
def test_columns_that_are_no_numbers_of_each_sample_are_named(tmp_path, columns, message):
    np.savez(tmp_path / "scores.npz", **columns)
    with pytest.raises(ValueError, match=message):
        read_scores(tmp_path / "scores.npz")


def test_a_whole_number_that_is_missing_is_as_at_the_start(tmp_path):
    np.savez(tmp_path / "scores.npz", last_loss=np.ones(3), visits=[1, np.nan, 2])
    assert read_scores(tmp_path / "scores.npz")["visits"].tolist() == [1, 0, 2]


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04cut off", b"\x80\x02cos\nsystem\n."])
def test_a_damaged_file_is_named(content, tmp_path):
    path = tmp_path / "scores.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"scores\.npz cannot be read .* export the scores again"):
        read_scores(path)
    np.savez(path, last_loss=np.array([{}], dtype=object))  # which only pickle could read
    with pytest.raises(ValueError, match=r"scores\.npz cannot be read"):
        read_scores(path)


@pytest.mark.parametrize("damage", [lambda whole: whole[:-9], lambda whole: b"\0" * 400 + whole[400:]])
def test_a_damaged_parquet_file_is_named(damage, tmp_path):
    path = after_one_epoch().export(tmp_path / "scores.parquet")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"scores\.parquet cannot be read .* export the scores again"):
        read_scores(path)
