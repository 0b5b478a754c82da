"""Coresets made of a run's signals."""

import csv
import json

import numpy as np
import pytest
import torch

from helpers import full_disk
from helpers.commands import refused_as_changed
from helpers.dynamics import epoch_of, write_epochs
from infobatch.dynamics import read_dynamics
from infobatch.dynamics.coreset import coreset as choose_coreset
from infobatch.lab.commands.loading import load
from infobatch.lab.runs.folder import RunFolder

TYPED = ["--data", "digits", "--epochs", 3, "--device", "cpu", "--record"]


@pytest.fixture
def recorded(call, tmp_path):
    code, _, error = call("train", *TYPED, "--out", tmp_path / "run")
    assert code == 0, error
    return tmp_path / "run"


def test_a_coreset_is_trained_on(call, recorded, tmp_path):
    out = tmp_path / "core.csv"
    code, said, error = call("coreset", recorded, "--keep", 0.3, "--by", "aum", "--out", out)
    assert code == 0, error
    assert "core.csv has 420 of 1,400 samples, the hard ones by aum. To train on them" in said
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
    assert "the file of --subset have changed since; put them back" in error


def test_epochs_of_a_loop_of_ones_own_make_one(call, tmp_path):
    folder = write_epochs(tmp_path / "dynamics", epoch_of(0, dict(enumerate([3.0, 1, 2, 5, 4]))))
    out = tmp_path / "easy.json"
    assert call("coreset", folder, "--keep", 0.4, "--prefer", "easy", "--out", out)[0] == 0
    assert json.loads(out.read_text()) == [1, 2]
    deep = tmp_path / "new" / "x.json"
    assert call("coreset", folder, "--keep", 0.4, "--out", deep)[0] == 0
    assert len(json.loads(deep.read_text())) == 2
    code, _, error = call("coreset", folder, "--keep", 0.4, "--out", out / "x.json")
    assert code == 2
    assert f"nothing can be written to {out} (File exists); choose another --out" in error
    with full_disk(0):
        code, _, error = call("coreset", folder, "--keep", 0.4, "--out", tmp_path / "y.json")
    assert code == 2
    assert "make room, or give write access\n" in error


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


def test_a_file_that_is_there_is_refused(call, recorded, tmp_path):
    (tmp_path / "x.json").write_text("[]")
    code, _, error = call("coreset", recorded, "--keep", 0.5, "--out", tmp_path / "x.json")
    assert code == 2
    assert "x.json is there already" in error


@pytest.mark.parametrize("drawn", [[], ["--train-samples", 200], ["--imbalance", 4]])
def test_the_coreset_of_a_drawn_part_is_trained_and_nothing_that_is_held_out(call, tmp_path, drawn):
    """Rows of a table in one file, a fifth of which is held out, are told by their amount."""
    table, file = tmp_path / "own.csv", tmp_path / "core.json"
    table.write_text("amount,fraud\n" + "".join(f"{n / 7},{n % 3 == 0}\n" for n in range(400)))
    typed = [f"{table}:fraud", "--epochs", 2, "--batch-size", 32, "--device", "cpu", "--record"]
    seen, again = tmp_path / "seen", tmp_path / "again"
    assert call("train", *typed, *drawn, "--out", seen)[0] == 0
    code, _, error = call("coreset", seen, "--keep", 0.25, "--out", file)
    assert code == 0, error
    assert call("train", *typed, "--subset", file, "--out", again)[0] == 0
    before, after = (load(RunFolder(folder).config()) for folder in (seen, again))
    chosen = choose_coreset(read_dynamics(seen).signals(), 0.25)
    assert after.train.numbers.equal(before.train.numbers[chosen])
    assert read_dynamics(again).num_samples == len(chosen)
    assert after.test.numbers.equal(before.test.numbers)
    assert not torch.isin(after.train.numbers, after.test.numbers).any()


def test_data_that_have_changed_are_refused(call, of_changed_data, tmp_path):
    folder, table, before = of_changed_data
    typed = ["coreset", folder, "--keep", 0.5, "--out", tmp_path / "x.json"]
    assert refused_as_changed(call(*typed)) == str(table)
    assert call(*typed, "--data-dir", before)[0] == 0
