import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from infobatch.lab.data import Augment, ImageData, Images, Normalize, load_data


def write_parquet(path, labels, size=32, column="img", label="label"):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, _ in enumerate(labels):
        buffer = io.BytesIO()
        Image.new("RGB", (size, size), (i, 2 * i, 3 * i)).save(buffer, format="PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    pq.write_table(pa.table({column: rows, label: pa.array(labels, pa.int64())}), path)


def cifar10(folder, train=(0, 1, 9), test=(3,), **options):
    write_parquet(folder / "cifar10" / "train.parquet", train, **options)
    write_parquet(folder / "cifar10" / "test.parquet", test, **options)
    return folder


def test_a_part_is_held_out_of_the_training_set():
    whole = load_data("digits")
    data = whole.split(0.25, 0)
    assert (len(data.train), len(data.test)) == (1050, 350)
    both = torch.cat([data.train.pixels, data.test.pixels]).flatten(1)
    assert len(both.unique(dim=0)) == len(whole.train.pixels.flatten(1).unique(dim=0))
    again = whole.split(0.25, 300)
    assert torch.equal(again.test.pixels, data.test.pixels)
    assert len(again.train) == 300
    assert torch.equal(whole.split(0, 300).test.pixels, whole.test.pixels)
    assert torch.equal(whole.split(0, 0).train.pixels, whole.train.pixels)
    with pytest.raises(ValueError, match=r"--train-samples is 1,051, but digits has only 1,050"):
        whole.split(0.25, 1051)


@pytest.mark.parametrize(
    ("name", "train", "test", "shape"),
    [("mnist5k", 4000, 1000, (1, 28, 28)), ("digits", 1400, 397, (1, 8, 8))],
)
def test_builtin_sets_have_a_fixed_split_without_overlap(name, train, test, shape):
    data, again = load_data(name), load_data(name)
    assert (len(data.train), len(data.test)) == (train, test)
    assert data.train.pixels.shape[1:] == shape
    assert data.train.pixels.dtype == torch.uint8
    assert torch.equal(data.test.pixels, again.test.pixels)
    assert set(data.train.labels.tolist()) == set(range(10)) == set(data.test.labels.tolist())


def test_mnist5k_uses_all_of_the_grey_range():
    assert load_data("mnist5k").train.pixels.max() == 255


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


def test_data_dir_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("INFOBATCH_DATA_DIR", str(cifar10(tmp_path)))
    assert len(load_data("cifar10").train) == 3


def test_cifar100_takes_the_fine_labels(tmp_path):
    for split in ("train", "test"):
        write_parquet(tmp_path / "cifar100" / f"{split}.parquet", [99], label="fine_label")
    assert load_data("cifar100", tmp_path).train.labels.tolist() == [99]


def test_classes_have_the_names_that_the_hub_gives_them(tmp_path):
    names = [f"animal {i}" for i in range(10)]
    cifar10(tmp_path)
    assert load_data("cifar10", tmp_path).class_names == tuple(map(str, range(10)))
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


def test_unknown_set_names_near_matches():
    with pytest.raises(ValueError, match="no data set 'cifar11'; did you mean cifar10"):
        load_data("cifar11")


def test_missing_files_name_the_folders_searched(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no train\*\.parquet.*download them from"):
        load_data("cifar10", tmp_path)


def test_malformed_parquet_is_named(tmp_path):
    cifar10(tmp_path)
    (tmp_path / "cifar10" / "train.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(ValueError, match=r"train\.parquet is not a readable parquet file"):
        load_data("cifar10", tmp_path)


def test_missing_column_is_named(tmp_path):
    with pytest.raises(ValueError, match="no 'img'; cifar10 needs 'img' and 'label'"):
        load_data("cifar10", cifar10(tmp_path, column="image"))


def test_label_out_of_range_names_the_row(tmp_path):
    with pytest.raises(ValueError, match=r"label 10 in row 1 .* classes 0\.\.9"):
        load_data("cifar10", cifar10(tmp_path, train=(0, 10)))


def test_wrong_image_size_names_the_row(tmp_path):
    with pytest.raises(ValueError, match=r"row 0 \(from 0\) of .* 16x16 pixels; expected 32x32"):
        load_data("cifar10", cifar10(tmp_path, size=16))


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
    [("cifar10", (50_000, 10_000), 10), ("tiny-imagenet-40", (20_000, 2_000), 40)],
)
def test_real_data_is_whole(name, sizes, num_classes):
    data = load_data(name)
    assert (len(data.train), len(data.test)) == sizes
    assert data.train.labels.bincount().tolist() == [sizes[0] // num_classes] * num_classes


def numbered_images(flip):
    pixels = torch.arange(4 * 8 * 8, dtype=torch.int64).remainder(251).to(torch.uint8)
    images = Images(pixels.reshape(4, 1, 8, 8), torch.arange(4))
    return ImageData("numbered", images, images, ("a", "b", "c", "d"), crop_padding=2, flip=flip)


@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_is_a_window_of_the_padded_image(flip):
    data = numbered_images(flip)
    augment = Augment(data, seed=0)
    augment.begin(3)
    crops = augment(torch.tensor([2, 0]))
    for crop, index in zip(crops, (2, 0), strict=True):
        padded = np.pad(data.train.pixels[index, 0].numpy(), 2, mode="reflect")
        windows = [padded[y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
        seen = [crop[0].numpy(), crop[0].flip(1).numpy()] if flip else [crop[0].numpy()]
        assert any(np.array_equal(window, s) for window in windows for s in seen)


def test_augmentation_depends_on_seed_epoch_and_index_alone():
    data = numbered_images(flip=True)
    one, other = Augment(data, seed=0), Augment(data, seed=0)
    one.begin(1)
    other.begin(0)
    other.begin(1)
    together = one(torch.tensor([0, 1, 2, 3]))
    assert torch.equal(together[[3, 1]], other(torch.tensor([3, 1])))
    differing = []
    for epoch in range(2, 8):
        one.begin(epoch)
        differing.append(not torch.equal(one(torch.tensor([0, 1, 2, 3])), together))
    assert any(differing)


def test_normalised_training_pixels_have_mean_0_and_variance_1():
    pixels = load_data("digits").train.pixels
    normalised = Normalize.of(pixels)(pixels)
    assert abs(float(normalised.mean())) < 1e-3
    assert abs(float(normalised.std()) - 1) < 1e-3
