"""Files of indices, and coresets made of a run's signals."""

import csv
import json

import numpy as np
import pytest

from helpers.dynamics import epoch_of, write_epochs
from infobatch.dynamics import read_dynamics
from infobatch.lab.commands.subsets import read_subset
from infobatch.lab.data import load_data

TYPED = ["--data", "digits", "--epochs", 3, "--device", "cpu", "--record"]


@pytest.fixture
def recorded(call, tmp_path):
    code, _, error = call("train", *TYPED, "--out", tmp_path / "run")
    assert code == 0, error
    return tmp_path / "run"


def test_a_file_that_is_not_there_is_told_before_data_are_loaded(call, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "infobatch.lab.commands.options.load_data", lambda *_, **__: pytest.fail("loaded")
    )
    code, _, error = call("train", *TYPED, "--subset", tmp_path / "none.json")
    assert code == 2
    assert "none.json cannot be read as JSON" in error


def test_a_subset_keeps_its_samples_and_the_test_set(tmp_path):
    data = load_data("digits")
    path = tmp_path / "subset.json"
    path.write_text("[5, 2, 9]")
    part = data.subset(read_subset(path, len(data.train)))
    assert part.train.labels.tolist() == data.train.labels[[2, 5, 9]].tolist()
    assert part.test.labels.equal(data.test.labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2", "cannot be read as JSON"),
        ("{}", "holds no list of indices"),
        ("[]", "holds no list of indices"),
        ("[1, 2.5]", "holds no list of indices"),
        ("[1, 1, 2]", "has 3 indices, of which 2 are different; give each once"),
        ("[0, 10]", r"the index 10, but the training set has 10 samples; give indices in 0\.\.9"),
        ("[-1, 3]", "has the index -1, but"),
    ],
)
def test_a_bad_subset_is_named(tmp_path, text, message):
    path = tmp_path / "subset.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_subset(path, 10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample\n1\n", "has no column 'index'; name the column"),
        ("index\n", "has no column 'index'"),
        ("index\n1.5\n", "has an index that is no whole number"),
        ("index\n3\n3\n", "has 2 indices, of which 1 are different"),
    ],
)
def test_a_bad_csv_is_named(tmp_path, text, message):
    path = tmp_path / "subset.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_subset(path, 10)


def test_a_subset_is_a_column_of_a_csv_file(tmp_path):
    path = tmp_path / "subset.csv"
    path.write_text("label,index\ncat,7\ndog,2\n")
    assert read_subset(path, 10).tolist() == [2, 7]


@pytest.mark.parametrize(("name", "text"), [("a.csv", "index,class\n7,é\n2,b\n"), ("a.json", "[7, 2]")])
def test_a_mark_of_utf8_that_other_programs_put_is_passed_over(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert read_subset(tmp_path / name, 10).tolist() == [2, 7]


def test_a_coreset_is_trained_on(call, recorded, tmp_path):
    out = tmp_path / "core.csv"
    code, said, error = call("coreset", recorded, "--keep", 0.3, "--by", "aum", "--out", out)
    assert code == 0, error
    assert "core.csv has 420 of 1,400 samples, the hard ones by aum: infobatch train --subset" in said
    assert "its gradient is" in said, "what static pruning costs is told"
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    signals = read_dynamics(recorded).signals()
    kept = [int(row["index"]) for row in rows]
    assert signals["aum"][kept].max() <= np.delete(signals["aum"], kept).min()
    assert float(rows[0]["aum"]) == signals["aum"][kept[0]]
    code, _, error = call("train", *TYPED, "--subset", out, "--out", tmp_path / "second")
    assert code == 0, error
    assert read_dynamics(tmp_path / "second").num_samples == 420
    # Of that run, indices are those of the whole set.
    smaller = tmp_path / "smaller.json"
    assert call("coreset", tmp_path / "second", "--keep", 0.5, "--out", smaller)[0] == 0
    chosen = json.loads(smaller.read_text())
    assert len(chosen) == 210
    assert set(chosen) < set(kept)
    out.write_text("index\n1\n")
    code, _, error = call("coreset", tmp_path / "second", "--keep", 0.5, "--out", tmp_path / "x.json")
    assert code == 2
    assert "the file has changed since" in error


def test_epochs_of_a_loop_of_ones_own_make_one(call, tmp_path):
    folder = write_epochs(tmp_path / "dynamics", epoch_of(0, dict(enumerate([3.0, 1, 2, 5, 4]))))
    out = tmp_path / "easy.json"
    assert call("coreset", folder, "--keep", 0.4, "--prefer", "easy", "--out", out)[0] == 0
    assert json.loads(out.read_text()) == [1, 2]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--keep", 1.5, "--out", "x.json"], "keep is 1.5; give a share above 0 and below 1"),
        (["--keep", 0.5, "--out", "x.txt"], "--out is x.txt; name it .json or .csv"),
        (["--keep", 0.5, "--by", "age", "--out", "x.json"], "there is no signal 'age' in what was"),
    ],
)
def test_bad_options_are_named(call, tmp_path, typed, message):
    folder = write_epochs(tmp_path / "dynamics", epoch_of(0, dict(enumerate([3.0, 1, 2, 5, 4]))))
    code, _, error = call("coreset", folder, *typed)
    assert code == 2
    assert message in error


def test_a_part_that_was_drawn_and_a_file_that_is_there_are_refused(call, recorded, tmp_path):
    drawn = tmp_path / "drawn"
    assert call("train", *TYPED, "--train-samples", 200, "--out", drawn)[0] == 0
    code, _, error = call("coreset", drawn, "--keep", 0.5, "--out", tmp_path / "x.json")
    assert code == 2
    assert "was trained with --train-samples 200, on a part of its set that was drawn" in error
    assert call("coreset", drawn / "dynamics", "--keep", 0.5, "--out", tmp_path / "x.json")[0] == 2
    (tmp_path / "x.json").write_text("[]")
    code, _, error = call("coreset", recorded, "--keep", 0.5, "--out", tmp_path / "x.json")
    assert code == 2
    assert "x.json is there already" in error
