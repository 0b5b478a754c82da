"""Hugging Face datasets, streamed: the images of rows left out are never decoded."""

import io
from collections import Counter

import pytest
import torch
from torch.utils.data import DataLoader

from helpers import Numbers, random_losses, record_epoch
from infobatch import DynamicPruner, InfoBatch
from infobatch.streams.filter import ENTRY, SampleIds, StreamFilter

datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.integrations

SIZE, BATCH, EPOCHS = 40, 4, 4


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Four Parquet files of images with an id."""
    folder = tmp_path_factory.mktemp("rows")
    features = datasets.Features(
        {"id": datasets.Value("string"), "image": datasets.Image(), "label": datasets.Value("int64")}
    )
    names = []
    for shard in range(4):
        rows = [
            {"id": f"image-{i}", "image": Image.new("RGB", (4, 4), (i, 0, 0)), "label": i}
            for i in range(shard, SIZE, 4)
        ]
        names.append(str(folder / f"{shard}.parquet"))
        datasets.Dataset.from_list(rows, features).to_parquet(names[-1])
    return names


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """It waits for seconds, at an epoch's end, for the threads that shuffle shards."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)


@pytest.fixture
def decoded(monkeypatch):
    """How often each image has been decoded in this process, by its colour."""
    counts, decode = Counter(), datasets.Image.decode_example

    def counting(self, value, **options):
        image = decode(self, value, **options)
        counts[image.getpixel((0, 0))[0]] += 1
        return image

    monkeypatch.setattr(datasets.Image, "decode_example", counting)
    return counts


def rows(files, folder):
    load = {"data_files": files, "split": "train", "streaming": True, "cache_dir": str(folder)}
    return datasets.load_dataset("parquet", **load)


def decode(row):
    with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
        return {**row, "image": torch.tensor(image.getpixel((0, 0)))}


@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_is_the_selection_in_an_order_of_its_own(files, workers, tmp_path):
    stream = rows(files, tmp_path)
    ids = SampleIds.of(stream.select_columns("id"), "id")
    pruner = DynamicPruner(ids, EPOCHS, policy=InfoBatch(0.7), delta=1)
    keep = StreamFilter(pruner, "id", BATCH)
    kept = keep(stream.decode(False).shuffle(seed=3, buffer_size=16)).map(decode)
    loader = DataLoader(kept, BATCH, num_workers=workers, persistent_workers=workers > 0)
    expected = DynamicPruner(Numbers(SIZE), EPOCHS, policy=InfoBatch(0.7), delta=1)
    orders = []
    for epoch in pruner.epochs():
        expected.set_epoch(epoch)
        assert torch.equal(pruner.selection.weights, expected.selection.weights)
        losses, seen = random_losses(SIZE, epoch), []
        for batch in loader:
            indices = keep.indices(batch[ENTRY])
            assert torch.equal(batch["image"][:, 0], batch["label"])
            assert indices.tolist() == [ids.number(row_id) for row_id in batch["id"]]
            keep.update(losses[indices], batch[ENTRY])
            seen += indices.tolist()
        assert sorted(seen) == pruner.selection.indices.tolist()
        assert pruner.current.finished
        orders.append(seen)
        record_epoch(expected, losses)
    both = set(orders[0]) & set(orders[1])
    of_both = [[index for index in order if index in both] for order in orders[:2]]
    assert of_both[0] != of_both[1], "the stream was told of the epoch"
    assert pruner.report().saved > 0.1


def test_images_of_rows_left_out_are_not_decoded(files, decoded, tmp_path):
    stream = rows(files, tmp_path)
    ids = SampleIds.of(stream.decode(False), "id")
    pruner = DynamicPruner(ids, EPOCHS, policy=InfoBatch(0.7))
    keep = StreamFilter(pruner, "id", BATCH)
    record_epoch(pruner, random_losses(SIZE))
    pruner.set_epoch(1)
    assert not decoded

    image = datasets.Image()
    kept = keep(stream.decode(False)).map(lambda row: image.decode_example(row["image"]))
    assert len(list(kept)) == decoded.total() == pruner.selection.num_selected < SIZE
    decoded.clear()

    naive = list(keep(stream))
    assert len(naive) == pruner.selection.num_selected
    assert decoded.total() == SIZE, "a stream that decodes is filtered too late"
