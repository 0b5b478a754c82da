"""One call writes the page; bad input is told before it is."""

import json
import re

import numpy as np
import pandas
import pytest
import torch

from helpers.explorer import HOSTILE, NUM_SAMPLES, pictures, record

pytest.importorskip("bokeh")

from infobatch.lab import explore


def facts_of(page):
    return json.loads(re.search(r'id="facts">(.*?)</script>', page.read_text())[1])


def test_the_page_lies_beside_what_was_recorded(tmp_path):
    folder = record(tmp_path / "my-run")
    page = explore(folder)
    assert page == tmp_path / "my-run" / "explore.html"
    assert explore(tmp_path / "my-run") == page
    assert "<title>my-run: what training tells" in page.read_text()
    names = [each["name"] for each in facts_of(page)["lists"]]
    assert names == ["suspects", "hard", "never-learned", "learned-at-once", "left-out"]


def test_labels_may_be_names_numbers_or_tensors(tmp_path):
    record(tmp_path)
    names = np.array(["cat", "dog"])[np.arange(NUM_SAMPLES) % 2]
    assert facts_of(explore(tmp_path, labels=names))["classes"] == ["cat", "dog"]
    numbers = torch.arange(NUM_SAMPLES) % 3
    assert facts_of(explore(tmp_path, labels=numbers))["classes"] == ["0", "1", "2"]
    assert facts_of(explore(tmp_path, labels=numbers, classes="abc"))["classes"] == ["a", "b", "c"]
    assert facts_of(explore(tmp_path, labels=numbers.float()))["classes"] == ["0", "1", "2"]
    objects = numbers.numpy().astype(object)  # as a table may have them
    assert facts_of(explore(tmp_path, labels=objects, classes="abc"))["classes"] == ["a", "b", "c"]
    many = facts_of(explore(tmp_path, labels=np.arange(NUM_SAMPLES).astype(object)))
    assert many["classes"] == [str(number) for number in range(NUM_SAMPLES)]


def test_classes_are_a_list_not_a_mapping(tmp_path):
    record(tmp_path)
    with pytest.raises(ValueError, match=r"classes is \{0: 'cat'\}; give a list of names"):
        explore(tmp_path, labels=[0] * NUM_SAMPLES, classes={0: "cat"})


def test_names_and_texts_from_elsewhere_stay_text(tmp_path):
    record(tmp_path)
    texts = [HOSTILE] * NUM_SAMPLES
    page = explore(tmp_path, texts=texts, labels=texts, title=HOSTILE, table={HOSTILE: texts})
    html = page.read_text()
    assert "<img" not in html
    assert html.count("&lt;/script&gt;&lt;img") == 2
    assert facts_of(page)["classes"] == [HOSTILE]
    assert facts_of(page)["texts"][0] == HOSTILE


def test_a_series_counts_by_place_whatever_its_index(tmp_path):
    record(tmp_path)
    index = np.arange(NUM_SAMPLES)[::-1]
    texts = pandas.Series([f"text {i}" for i in range(NUM_SAMPLES)], index)
    images = pandas.Series([*pictures()[:-1], b"broken"], index)
    facts = facts_of(explore(tmp_path, texts=texts, images=images))
    assert facts["texts"] == list(texts)
    assert facts["pictures"]["broken"] == [NUM_SAMPLES - 1]


def test_names_of_files_that_are_no_utf8_do_not_end_it(tmp_path):
    record(tmp_path)
    names = ["caf\udce9"] * NUM_SAMPLES
    page = explore(tmp_path, labels=names, texts=names, title=names[0])
    assert facts_of(page)["classes"] == ["caf?"]


def test_what_is_not_on_the_page_is_said(tmp_path):
    record(tmp_path)
    images = [*pictures()[:-1], b"broken"]
    html = explore(tmp_path, images=images, most=NUM_SAMPLES).read_text()
    assert "1 image does not open (of no known format)" in html
    html = explore(tmp_path, most=20).read_text()
    assert "Of the 60 samples the page shows 20: the first of each list" in html


def test_near_duplicates_are_listed_where_there_are_embeddings(tmp_path):
    record(tmp_path)
    vectors = torch.eye(NUM_SAMPLES)
    vectors[4] = vectors[9]
    found = facts_of(explore(tmp_path, embeddings=vectors))["lists"]
    assert found[-1]["title"] == "Near-duplicates"
    assert found[-1]["meaning"].endswith("the closest pairs first, 500 at most.")
    assert "duplicates" not in {each["name"] for each in facts_of(explore(tmp_path))["lists"]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": [0, 1]}, "labels has 2 entries, but .*dynamics was recorded of 60 samples"),
        ({"texts": ["a"]}, "texts has 1 entries"),
        ({"images": pictures(9)}, "images has 9 entries"),
        ({"labels": np.zeros((60, 2), int)}, r"labels have the shape \(60, 2\); give one class"),
        ({"labels": np.full(60, 0.5)}, "labels are of type float64; give whole numbers or names of"),
        ({"labels": np.full(60, np.inf)}, "labels are of type float64; give whole numbers or names of"),
        ({"labels": [0] * 60, "classes": "aba"}, "classes has 'a' more than once; give each class a na"),
        ({"labels": ["a"] * 60, "classes": ["b"]}, "labels has 'a', which is none of the classes"),
        ({"labels": [2] * 60, "classes": ["a", "b"]}, "labels has 2, but there are 2 classes"),
        ({"table": {"a": np.zeros((60, 2))}}, r"table\['a'\] has the shape \(60, 2\); give one value"),
        ({"embeddings": np.zeros((3, 2))}, r"embeddings have the shape \(3, 2\)"),
        ({"most": 0}, "most is 0; a page shows at least 1"),
        ({"thumbnail": 4}, "thumbnail is 4; it must be between 8 and 256"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(tmp_path, given, message):
    record(tmp_path)
    with pytest.raises(ValueError, match=message):
        explore(tmp_path, **given)
    assert not (tmp_path / "explore.html").exists()


def test_a_run_that_was_not_recorded_is_told_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"has no recorded epochs .*record_to=.*--record"):
        explore(tmp_path)
    with pytest.raises(ValueError, match="is a folder; give the name of a file"):
        explore(record(tmp_path), out=tmp_path)
