"""Training on a selection made beforehand: --subset."""

import json

import pytest

from infobatch.lab.commands.options import read_subset
from infobatch.lab.data import load_data
from infobatch.lab.report import read_runs
from infobatch.lab.runs.folder import RunFolder


@pytest.fixture
def subset(tmp_path):
    path = tmp_path / "subset.json"
    path.write_text(json.dumps(list(range(1, 601, 2))))
    return path


def test_a_run_sees_no_sample_beyond_its_subset(call, subset, tmp_path):
    options = ["--data", "digits", "--epochs", 2, "--device", "cpu", "--subset", subset]
    code, _, error = call("train", *options, "--out", tmp_path / "run")
    assert code == 0, error
    folder = RunFolder(tmp_path / "run")
    assert folder.config().subset == subset
    assert folder.summary().num_full == 2 * 300
    assert len(folder.scores()["visits"]) == 300
    assert read_runs([tmp_path / "run"]).title.startswith("small-cnn on digits (300 samples), 2 epochs")


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
