"""Image sets from parquet files of the hub's layout."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.images import cifar10, write_parquet
from infobatch.lab.data import load_data


def test_hub_layout_is_read_in_row_order(tmp_path):
    data = load_data("cifar10", cifar10(tmp_path))
    assert data.train.labels.tolist() == [0, 1, 9]
    assert data.train.pixels[2, :, 0, 0].tolist() == [2, 4, 6]
    assert data.test.pixels.shape == (1, 3, 32, 32)


def test_hub_layout_may_be_sharded(tmp_path):
    folder = tmp_path / "plain_text"
    write_parquet(folder / "train-00000-of-00002.parquet", [0, 1])
    write_parquet(folder / "train-00001-of-00002.parquet", [2])
    write_parquet(folder / "test-00000-of-00001.parquet", [3])
    assert load_data("cifar10", tmp_path).train.labels.tolist() == [0, 1, 2]


def test_cifar100_takes_the_fine_labels(tmp_path):
    for split in ("train", "test"):
        write_parquet(tmp_path / "cifar100" / f"{split}.parquet", [99], label="fine_label")
    data = load_data("cifar100", tmp_path)
    assert data.train.labels.tolist() == [99]
    assert data.class_names == tuple(map(str, range(100))), "files that give no names"


def test_classes_have_the_names_that_the_hub_gives_them_else_their_own(tmp_path):
    names = [f"animal {i}" for i in range(10)]
    cifar10(tmp_path)
    assert load_data("cifar10", tmp_path).class_names[:2] == ("airplane", "automobile")
    path = tmp_path / "cifar10" / "train.parquet"
    feature = {"names": names, "_type": "ClassLabel"}
    info = {"info": {"features": {"img": {"_type": "Image"}, "label": feature}}}
    table = pq.read_table(path).replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path)
    assert load_data("cifar10", tmp_path).class_names == tuple(names)


def test_tiny_imagenet_is_read_from_the_hubs_layout(tmp_path):
    for split, labels in (("train", [0, 199, 39]), ("valid", [40, 7])):
        path = tmp_path / "data" / f"{split}-00000-of-00001-abc.parquet"
        write_parquet(path, labels, size=64, column="image")
    whole = load_data("tiny-imagenet", tmp_path)
    assert whole.train.labels.tolist() == [0, 199, 39]
    assert whole.test.pixels.shape == (2, 3, 64, 64)
    assert whole.num_classes == 200
    part = load_data("tiny-imagenet-40", tmp_path)
    assert part.train.labels.tolist() == [0, 39]
    assert part.train.pixels[1, :, 0, 0].tolist() == [2, 4, 6], "the pixels went with their labels"
    assert part.test.labels.tolist() == [7]
    assert part.num_classes == 40


def test_fashion_mnist_stays_gray(tmp_path):
    for split in ("train", "test"):
        path = tmp_path / "fashion-mnist" / f"{split}.parquet"
        write_parquet(path, [3, 9], size=28, column="image")
    data = load_data("fashion-mnist", tmp_path)
    assert data.train.pixels.shape == (2, 1, 28, 28)
    assert data.test.labels.tolist() == [3, 9]
    assert data.flip


def test_label_out_of_range_names_the_row(tmp_path):
    with pytest.raises(ValueError, match=r"label 10 in row 1 .* classes 0\.\.9"):
        load_data("cifar10", cifar10(tmp_path, train=(0, 10)))


def test_wrong_image_size_names_the_row(tmp_path):
    with pytest.raises(ValueError, match=r"row 0 \(from 0\) of .* 16x16 pixels; expected 32x32"):
        load_data("cifar10", cifar10(tmp_path, size=16))


def test_labels_may_be_names_and_images_plain_bytes(tmp_path):
    cifar10(tmp_path)
    path = tmp_path / "cifar10" / "train.parquet"
    table = pq.read_table(path)
    images = [each["bytes"] for each in table["img"].to_pylist()]
    pq.write_table(pa.table({"img": images, "label": ["cat", "dog", "truck"]}), path)
    assert load_data("cifar10", tmp_path).train.labels.tolist() == [3, 5, 9]
    pq.write_table(pa.table({"img": images, "label": ["cat", "shoe", "dog"]}), path)
    with pytest.raises(ValueError, match=r"row 1 \(from 0\) of .*train\.parquet has the label 'shoe'"):
        load_data("cifar10", tmp_path)
    pq.write_table(pa.table({"img": ["a.png"], "label": [1]}), path)
    with pytest.raises(
        ValueError, match=r"has in 'img' values of type string; they must hold the bytes"
    ):
        load_data("cifar10", tmp_path)


def test_a_missing_label_names_the_row(tmp_path):
    cifar10(tmp_path)
    path = tmp_path / "cifar10" / "train.parquet"
    images = pq.read_table(path)["img"]
    pq.write_table(pa.table({"img": images, "label": [1, None, 2]}), path)
    with pytest.raises(ValueError, match=r"row 1 \(from 0\) of .*train\.parquet has no label"):
        load_data("cifar10", tmp_path)


def test_unreadable_image_names_the_row(tmp_path):
    cifar10(tmp_path)
    table = pa.table({"img": [{"bytes": b"no image", "path": None}], "label": [0]})
    pq.write_table(table, tmp_path / "cifar10" / "train.parquet")
    with pytest.raises(
        ValueError, match=r"row 0 \(from 0\) of .* is not a readable image \(of no known format\)"
    ):
        load_data("cifar10", tmp_path)


@pytest.mark.skipif("INFOBATCH_DATA_DIR" not in os.environ, reason="needs real data")
@pytest.mark.parametrize(
    ("name", "sizes", "num_classes"),
    [
        ("cifar10", (50_000, 10_000), 10),
        ("fashion-mnist", (60_000, 10_000), 10),
        ("tiny-imagenet-40", (20_000, 2_000), 40),
    ],
)
def test_real_data_is_whole(name, sizes, num_classes):
    data = load_data(name)
    assert (len(data.train), len(data.test)) == sizes
    assert data.train.labels.bincount().tolist() == [sizes[0] // num_classes] * num_classes
