"""Labels of images in parquet files, as numbers and as names."""

import numpy as np
import pyarrow as pa
import pytest

from infobatch.lab.data.labels import number_labels, read_labels


def place(row):
    return f"row {row} of train.parquet"


@pytest.mark.parametrize(
    "labels",
    [pa.array([2, 0]), pa.array([2.0, 0.0]), pa.array([2, 0], pa.uint8()), pa.chunked_array([[2], [0]])],
)
def test_whole_numbers_are_classes_of_any_type(labels):
    found = read_labels(labels, place)
    assert number_labels(found, "abc", False, place).tolist() == [2, 0]


def test_truth_values_are_two_classes():
    assert read_labels(pa.array([True, False]), place).tolist() == [1, 0]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_texts_are_names_of_classes(kind):
    found = read_labels(pa.array(["dog", "cat"]).cast(kind), place)
    assert number_labels(found, ("cat", "dog"), True, place).tolist() == [1, 0]


def test_numbers_may_be_names_of_classes():
    assert number_labels(np.array([7, 3]), ("3", "7"), True, place).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 0.9], r"row 1 of train\.parquet has the label 0\.9, which is no class; labels must be"),
        ([0.0, float("nan")], r"row 1 of train\.parquet has the label nan, which is no class"),
        ([1e300], r"row 0 of train\.parquet has the label 1e\+300, which is no class"),
        ([0, 1, None], r"row 2 of train\.parquet has no label; give it one, or leave the row out"),
        ([None, "cat"], r"row 0 of train\.parquet has no label"),
        ([[1]], r"row 0 of train\.parquet has a label of type list<.*>; labels must be whole numbers"),
    ],
)
def test_labels_that_are_no_classes_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        read_labels(pa.array(labels), place)


def test_names_that_training_does_not_have_are_named():
    message = (
        r"row 1 of train\.parquet has the label 'cow', which is no class .* \(2 classes \(cat, dog\)"
    )
    with pytest.raises(ValueError, match=message):
        number_labels(np.array(["dog", "cow"], object), ("cat", "dog"), True, place)
