"""Images with the class of each pixel, and rows that cannot be trained on."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from helpers.images import encoded
from helpers.segmentation import rows, write
from infobatch.lab.data import load_data
from infobatch.lab.data.segmentation import IGNORED

GOOD = rows(1)[0]
WRONG = np.full((36, 44), 3, np.uint8)
OUT = WRONG.copy()
OUT[3, 4] = 12


@pytest.fixture(scope="module")
def data(camvid_folder):
    return load_data("camvid", camvid_folder)


def test_images_come_with_the_class_of_each_pixel(data):
    assert (len(data.train), len(data.test), data.num_classes) == (20, 6, 11)
    image, classes = data.train[2]
    assert image.size == (44, 36)
    assert (classes[0] == IGNORED).all()
    assert classes[15, 15] == 3
    indices, members = data.class_members
    assert indices[members == 0].tolist() == list(range(20))
    assert indices[members == 3].tolist() == [2, 6, 10, 14, 18]
    assert data.train_labels is None


def test_ade20k_counts_classes_from_1_and_leaves_0_out(tmp_path):
    classes = np.array([[0, 1], [150, 2]], np.uint8).repeat(20, 0).repeat(20, 1)
    pair = (encoded(np.zeros((40, 40, 3), np.uint8), "JPEG"), encoded(classes))
    for split in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        write(tmp_path / "ade20k" / "data" / f"{split}.parquet", [pair])
    data = load_data("ade20k", tmp_path)
    assert (len(data.train), len(data.test), data.num_classes) == (2, 1, 150)
    assert np.unique(data.train[1][1]).tolist() == [0, 1, 149, IGNORED]
    assert data.class_names[149] == "flag"
    assert data.class_members[1].tolist() == [0, 1, 149] * 2


def test_images_and_annotations_may_be_plain_bytes(tmp_path):
    image, annotation = GOOD
    for split in ("train", "test"):
        path = tmp_path / "camvid" / f"{split}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"image": [image], "annotation": [annotation]}), path)
    assert load_data("camvid", tmp_path).train[0][0].size == (44, 36)


def test_a_part_is_of_the_rows_that_were_chosen(data):
    part = data.split(0.2, 10)
    assert (len(part.train), len(part.test)) == (10, 4)
    chosen = data.subset(torch.tensor([3, 7]))
    assert np.array_equal(chosen.train[1][1], data.train[7][1])
    assert chosen.train.present.tolist() == data.train.present[[3, 7]].tolist()
    assert len(chosen.test) == 6


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((GOOD[0], None), "the annotation is missing"),
        ((None, GOOD[1]), "the image is missing"),
        ((GOOD[0], encoded(OUT)), r"class id 12 .* out of range; it has ids 0\.\.11, of which 11 is"),
        ((GOOD[0], encoded(WRONG.astype(np.uint16) + 1000)), "class id 1003 in the annotation"),
        ((GOOD[0], encoded(WRONG[:35])), "the image has 44x36 pixels, and its annotation 44x35"),
        ((GOOD[0], encoded(np.stack([WRONG] * 3, 2))), "the annotation has mode RGB; it must hold one"),
        ((GOOD[0][:-60], GOOD[1]), r"the image cannot be read \("),
        ((b"GIF", GOOD[1]), r"the image cannot be read \(of no known format\)"),
        (
            (encoded(np.ones((36, 44), np.float32), "TIFF"), GOOD[1]),
            "its shades are from 1 to 1 in mode F",
        ),
        ((GOOD[0], b"PNG"), r"the annotation cannot be read \(of no known format\)"),
        (
            (encoded(np.zeros((20, 44, 3), np.uint8)), GOOD[1]),
            "the image has 44x20 pixels, and needs 32",
        ),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_named_or_left_out(tmp_path, pair, message):
    write(tmp_path / "camvid" / "train.parquet", [GOOD, GOOD, pair, GOOD, pair])
    write(tmp_path / "camvid" / "test.parquet", [GOOD])
    with pytest.raises(
        ValueError, match=rf"^row 2 \(from 0\) of \S+train\.parquet: {message}"
    ) as caught:
        load_data("camvid", tmp_path)
    assert "--segmentation.skip-bad" in str(caught.value)
    assert "(2 of 5 rows are bad)" in str(caught.value)
    told = []
    data = load_data("camvid", tmp_path, skip_bad=True, say=told.append)
    assert data.train.rows.tolist() == [0, 1, 3]
    assert len(told) == 1
    assert told[0].startswith("2 of 5 images of camvid are left out; row 2 (from 0) of")


def test_a_set_of_bad_rows_alone_is_refused(tmp_path):
    write(tmp_path / "camvid" / "train.parquet", [(GOOD[0], None)] * 2)
    write(tmp_path / "camvid" / "test.parquet", [GOOD])
    with pytest.raises(ValueError, match=r"all 2 rows are bad, the first one row 0 \(from 0\) of"):
        load_data("camvid", tmp_path, skip_bad=True)


def test_a_set_that_is_not_there_is_told_of(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no train\*\.parquet and test\*\.parquet of camvid"):
        load_data("camvid", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"download them from huggingface\.co/datasets/merve"):
        load_data("ade20k", tmp_path)
    monkeypatch.delenv("INFOBATCH_DATA_DIR", raising=False)
    with pytest.raises(FileNotFoundError, match="camvid is not downloaded; give --data-dir"):
        load_data("camvid")
