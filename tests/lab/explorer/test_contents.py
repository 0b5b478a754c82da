"""What samples show: of each kind of data, and refused where it is not of the run's samples."""

import numpy as np
import pytest

from infobatch.lab.data import load_data
from infobatch.lab.data.own import OwnData
from infobatch.lab.explorer.contents import Contents, contents_of
from infobatch.lab.explorer.thumbnails import picture_of


def test_images_in_memory(data):
    shown = contents_of(data)
    assert picture_of(shown.images[5]).size == (8, 8)
    assert shown.labels.tolist() == data.train.labels.tolist()
    assert shown.class_names == data.class_names


def test_images_with_a_class_for_each_pixel_have_none_of_their_own(camvid_folder):
    shown = contents_of(load_data("camvid", camvid_folder))
    assert picture_of(shown.images[0]).mode == "RGB"
    assert shown.labels is None


def test_rows_of_a_table_have_their_numbers():
    data = load_data("breast-cancer")
    shown = contents_of(data)
    assert list(shown.table) == list(data.schema.numbers)
    assert shown.table["mean radius"][3] == float(data.train.numbers[3, 0])


def test_rows_whose_number_is_predicted_show_it():
    data = load_data("diabetes")
    shown = contents_of(data)
    assert shown.labels is None
    assert shown.table[data.schema.target].tolist() == data.train.labels.tolist()


def test_data_that_a_function_alone_knows_shows_nothing():
    assert contents_of(OwnData()) == Contents()


@pytest.mark.parametrize("part", ["labels", "images", "texts", "table", "origin"])
def test_data_of_another_length_is_refused(part):
    values = {"a": np.zeros(4)} if part == "table" else np.zeros(4, dtype=int)
    name = r"table\['a'\]" if part == "table" else part
    message = f"{name} has 4 entries, but run was recorded of 5 samples; give those of the data"
    with pytest.raises(ValueError, match=message):
        Contents(class_names=("a",), **{part: values}).check(5, "run")


@pytest.mark.parametrize("wrong", [-1, 2])
def test_a_label_without_a_class_is_refused(wrong):
    with pytest.raises(ValueError, match=f"labels has {wrong}, but there are 2 classes; give the names"):
        Contents(np.array([0, wrong, 1]), ("a", "b")).check(3, "run")
