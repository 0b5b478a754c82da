"""Images in folders and in parquet files, those of the hub and one's own."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from helpers.images import picture
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import StreamedData, load_data, make_feed
from infobatch.lab.training.validate import check_config, check_run

CPU = torch.device("cpu")


def test_folders_give_classes_in_order(folders):
    data = load_data("imagenet", folders)
    assert isinstance(data, StreamedData)
    assert data.class_names == ("n01", "n02", "n03")
    assert data.train.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert len(data.test) == 6


@pytest.fixture
def shards(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    folder = tmp_path / "imagenet" / "data"
    folder.mkdir(parents=True)
    for name, labels in (
        ("train-00000-of-00002", [0, 1, 2]),
        ("train-00001-of-00002", [2, 1]),
        ("validation-00000-of-00001", [1, 0]),
    ):
        rows = [{"bytes": picture(label, i), "path": f"{i}.JPEG"} for i, label in enumerate(labels)]
        table = pa.table({"image": rows, "label": pa.array(labels, pa.int64())})
        pq.write_table(table, folder / f"{name}.parquet")
    return tmp_path


def test_parquet_shards_are_read_in_row_order(shards):
    data = load_data("imagenet", shards)
    assert data.train.labels.tolist() == [0, 1, 2, 2, 1]
    assert data.test.labels.tolist() == [1, 0]
    assert data.num_classes == 1000
    pixels, label = make_feed(data, CPU, 0, 0).dataset[3]
    assert label == 2
    assert pixels.shape == (3, 224, 224)
    assert pixels.dtype == torch.uint8
    assert pixels[2].float().mean() > 150 > pixels[0].float().mean() + 50


def test_missing_files_say_what_is_looked_for(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"neither train/ .* nor train\*\.parquet; it holds nothing"
    ):
        load_data("imagenet", tmp_path)


def test_a_broken_row_is_named_by_its_file(shards):
    path = shards / "imagenet" / "data" / "train-00001-of-00002.parquet"
    rows = [{"bytes": picture(2, 3), "path": "3.JPEG"}, {"bytes": b"no image", "path": "4.JPEG"}]
    pq.write_table(pa.table({"image": rows, "label": pa.array([2, 1], pa.int64())}), path)
    feed = make_feed(load_data("imagenet", shards), CPU, 0, 0)
    with pytest.raises(
        ValueError, match=r"^row 1 \(from 0\) of train-00001-of-00002\.parquet is not a readable"
    ):
        feed.dataset[4]


def test_own_images_need_no_labels(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        (tmp_path / split).mkdir()
        for i in range(count):
            (tmp_path / split / f"{i}.png").write_bytes(picture(0, i, "PNG"))
    data = load_data("images", tmp_path)
    assert (len(data.train), len(data.test), data.num_classes) == (3, 2, 0)
    assert data.train_labels is None
    assert data.shape == (3, 224, 224)
    assert make_feed(data, CPU, 0, 0).dataset[2][1] == -1


def test_own_folders_have_the_classes_they_have(folders):
    assert load_data("images", folders / "imagenet").class_names == ("n01", "n02", "n03")


def own(folder, labels_of=None, tested="validation"):
    """Parquet files with three training images and one to evaluate on."""
    for split, count in (("train", 3), (tested, 1)):
        columns = {"image": [{"bytes": picture(i, i), "path": None} for i in range(count)]}
        if labels_of is not None:
            columns["label"] = pa.array(labels_of[split])
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def test_own_parquet_files_have_as_many_classes_as_labels(tmp_path, cache):
    data = load_data("images", own(tmp_path, {"train": [0, 3, 1], "validation": [2]}))
    assert data.class_names == ("0", "1", "2", "3")
    assert data.test.labels.tolist() == [2]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_parquet_files_to_evaluate_on_have_any_of_the_usual_names(tmp_path, cache, name):
    folder = tmp_path / "my [/x] é"
    folder.mkdir(parents=True)
    data = load_data("images", own(folder, tested=name))
    assert (data.tested_on, len(data.test)) == (name, 1)
    assert make_feed(data, CPU, 0, 0).dataset[2][0].shape == (3, 224, 224)


def test_parquet_files_of_another_name_have_to_be_named(tmp_path, cache):
    own(tmp_path, tested="held")
    assert load_data("images", tmp_path, test="held").tested_on == "held"
    for name, message in (("", "begin with val or valid or .*held"), ("hel", "begin with hel;")):
        with pytest.raises(FileNotFoundError, match=message):
            load_data("images", tmp_path, test=name)


def test_own_parquet_files_need_no_labels(tmp_path, cache):
    assert load_data("images", own(tmp_path)).train_labels is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"train": [0, 1, 1], "validation": [2]},
            r"label 2 in row 0 \(from 0\) of validation\.parquet is out of",
        ),
        (
            {"train": [0, -1, 1], "validation": [0]},
            r"label -1 in row 1 \(from 0\) of train\.parquet is out of",
        ),
    ],
)
def test_labels_out_of_range_are_named(tmp_path, cache, labels, message):
    with pytest.raises(ValueError, match=message):
        load_data("images", own(tmp_path, labels))


def test_labels_that_are_ids_are_told_of(tmp_path, cache):
    with pytest.raises(
        ValueError, match=r"row 1 \(from 0\) of train\.parquet has the label 20000000, by"
    ):
        load_data("images", own(tmp_path, {"train": [0, 20_000_000, 1], "validation": [0]}))


def test_labels_of_text_are_classes_in_their_order(tmp_path, cache):
    data = load_data("images", own(tmp_path, {"train": ["dog", "cat", "dog"], "validation": ["cat"]}))
    assert data.class_names == ("cat", "dog")
    assert data.train_labels.tolist() == [1, 0, 1]
    assert data.test.labels.tolist() == [0]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bytes_alone_are_images(tmp_path, cache, kind):
    for split in ("train", "test"):
        images = pa.array([picture(0, 0), picture(1, 1)], kind)
        pq.write_table(pa.table({"image": images, "label": [0, 1]}), tmp_path / f"{split}.parquet")
    feed = make_feed(load_data("images", tmp_path), CPU, 0, 0)
    assert feed.dataset[1][0].shape == (3, 224, 224)


def test_images_that_are_no_bytes_are_refused(tmp_path, cache):
    for split in ("train", "test"):
        pq.write_table(pa.table({"image": ["a.png"], "label": [0]}), tmp_path / f"{split}.parquet")
    with pytest.raises(ValueError, match="images of type string; they must hold the bytes of image"):
        load_data("images", tmp_path)


def test_own_images_have_to_be_given(monkeypatch):
    monkeypatch.delenv("INFOBATCH_DATA_DIR", raising=False)
    with pytest.raises(FileNotFoundError, match="images is for files of your own; give --data-dir"):
        load_data("images")


def test_a_classifier_needs_labels(tmp_path, cache):
    config = TrainConfig(data="images", model="resnet8", device="cpu")
    check_config(config)
    with pytest.raises(ValueError, match="--task classification needs labels, and images has none"):
        check_run(config, load_data("images", own(tmp_path)))
