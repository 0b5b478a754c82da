"""Images read as they are trained, and cut by random boxes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import load_data, make_feed
from infobatch.lab.data.streamed import PlainImages, random_box
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.train import train

CPU = torch.device("cpu")


def test_augmentation_depends_on_seed_epoch_and_index_alone(folders):
    data = load_data("imagenet", folders)
    feeds = [make_feed(data, CPU, seed, 0) for seed in (0, 0, 1)]
    for feed in feeds:
        feed.begin(3)
    first, again, other = (feed.dataset[5][0] for feed in feeds)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    feeds[0].begin(4)
    assert not torch.equal(feeds[0].dataset[5][0], first)


def test_boxes_have_the_areas_and_shapes_wanted():
    rng = np.random.default_rng(0)
    for width, height in ((500, 375), (100, 300)):
        for _ in range(300):
            left, top, right, bottom = random_box(width, height, rng)
            assert 0 <= left < right <= width + 1e-9
            assert 0 <= top < bottom <= height + 1e-9
            assert 0.08 - 1e-6 <= (right - left) * (bottom - top) / (width * height) <= 1
            assert 0.75 - 1e-6 <= (right - left) / (bottom - top) <= 4 / 3 + 1e-6


def test_an_image_no_box_fits_in_gives_its_centre():
    left, top, right, bottom = random_box(1000, 10, np.random.default_rng(0))
    assert (left + right, top + bottom) == (1000, 10)
    assert (right - left) / (bottom - top) <= 4 / 3 + 1e-6


def test_a_run_streams_through_workers(folders, tmp_path):
    config = TrainConfig(
        data="imagenet", data_dir=folders, model="resnet8", stem_stride=4, epochs=3, batch_size=8,
        workers=2, drop_last=True, device="cpu", mixup=0.2, policy="infobatch",
    )  # fmt: skip
    data = load_data("imagenet", folders)
    summaries = []
    for name, workers in (("two", 2), ("none", 0)):
        run = replace(config, workers=workers)
        folder = RunFolder(tmp_path / name)
        folder.create(run)
        summaries.append(train(run, data, folder))
        assert [m.num_kept % 8 for m in folder.metrics()] == [0, 0, 0]
    assert summaries[0].test_loss == summaries[1].test_loss


def test_a_broken_image_is_named(folders):
    (folders / "imagenet" / "train" / "n01" / "n01_0.JPEG").write_bytes(b"no image")
    feed = make_feed(load_data("imagenet", folders), CPU, 0, 0)
    with pytest.raises(ValueError, match=r"n01/n01_0\.JPEG is not a readable image"):
        feed.dataset[0]


def test_images_of_16_bits_are_not_white(folders):
    file = folders / "imagenet" / "val" / "n01" / "n01_0.JPEG"
    file.unlink()
    shades = np.full((40, 60), 20_000, np.uint16)
    Image.fromarray(shades).save(file.with_suffix(".png"))
    data = load_data("imagenet", folders)
    assert PlainImages(data.test, data)[0][0].unique().tolist() == [20_000 // 256]
    Image.fromarray(shades.astype(np.float32)).save(file.with_suffix(".tiff"))
    file.with_suffix(".png").unlink()
    data = load_data("imagenet", folders)
    with pytest.raises(ValueError, match=r"n01_0\.tiff is not a readable image \(its shades are from 2"):
        PlainImages(data.test, data)[0]
