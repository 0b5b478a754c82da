"""Sets of instructions: where they come from, and what their rows become."""

import json

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from infobatch.lab.data import load_data
from infobatch.lab.data.instructions import MOST_HELD_OUT

ROWS = [{"instruction": f"Say {i}.", "input": "", "output": str(i), "text": "all"} for i in range(30)]


def test_alpaca_is_downloaded_and_a_tenth_of_it_held_out(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "data" / "train-00000-of-00001.parquet")
    asked = []

    def download(repository, repo_type, allow_patterns):
        asked.append((repository, repo_type, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.delenv("INFOBATCH_DATA_DIR", raising=False)
    data = load_data("alpaca")
    assert asked == [("tatsu-lab/alpaca", "dataset", "data/*.parquet")]
    assert (len(data.train), len(data.test)) == (27, 3)
    assert {row.output for row in (*data.train, *data.test)} == {str(i) for i in range(30)}
    assert data.class_names == ()
    assert data.train_labels is None


def test_at_most_2000_rows_are_held_out(tmp_path):
    (tmp_path / "alpaca_data_cleaned.json").write_text(json.dumps(1000 * ROWS))
    data = load_data("alpaca-cleaned", tmp_path)
    assert (len(data.train), len(data.test)) == (28_000, MOST_HELD_OUT)
    assert data.origin is None, "what is left is what --subset counts in"


def test_tasks_are_its_classes(tmp_path):
    (tmp_path / "bbh").mkdir()
    rows = [{**row, "task": "odd" if i % 2 else "even"} for i, row in enumerate(ROWS)]
    for name, part in (("train", rows[:20]), ("test", rows[20:])):
        pq.write_table(pa.Table.from_pylist(part), tmp_path / "bbh" / f"{name}.parquet")
    data = load_data("bbh", tmp_path)
    assert data.class_names == ("even", "odd")
    assert data.train_labels.tolist() == 10 * [0, 1]
    some = data.subset(torch.tensor([3, 4, 5]))
    assert [row.place for row in some.train] == [f"row {i} (from 0) of train.parquet" for i in (3, 4, 5)]
    assert some.train_labels.tolist() == [1, 0, 1]
    assert len(data.split(0.25, 8).train) == 8


@pytest.mark.parametrize(
    ("name", "number", "message"),
    [
        ("test.jsonl", 2, r"has files to test on alone; add some to train on, as train\.jsonl"),
        ("rows.jsonl", 1, "has one row, and none to test on; give more rows, or a file"),
    ],
)
def test_too_few_rows_or_files_are_told_of(tmp_path, name, number, message):
    (tmp_path / name).write_text("".join(f"{json.dumps(row)}\n" for row in ROWS[:number]))
    with pytest.raises(ValueError, match=message):
        load_data("instructions", tmp_path)


@pytest.mark.parametrize("name", ["train.jsonl", "train.json"])
def test_text_may_have_any_character_and_files_a_byte_order_mark(tmp_path, name):
    said = ["one\u2028two", "three\x85four", "five\u2029six", "Grüße"]
    rows = [{"instruction": text, "output": text} for text in said]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "\n\n".join(lines) if name.endswith("l") else f"[{','.join(lines)}]"
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    data = load_data("instructions", tmp_path)
    assert sorted(row.output for row in (*data.train, *data.test)) == sorted(said)
