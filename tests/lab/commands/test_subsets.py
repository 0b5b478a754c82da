"""Files of indices."""

import pytest

from helpers.commands import TYPED
from infobatch.lab.commands.subsets import read_subset
from infobatch.lab.data import load_data


def test_a_file_that_is_not_there_is_told_before_data_are_loaded(call, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "infobatch.lab.commands.loading.load_data", lambda *_, **__: pytest.fail("loaded")
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
