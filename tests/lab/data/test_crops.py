"""Random crops to train on, and whole images to test on."""

import numpy as np
import pytest
import torch

from helpers.segmentation import rows, write
from infobatch.distributed import Replicas
from infobatch.lab.data import load_data
from infobatch.lab.data.crops import CropFeed, Cropping, TrainCrops, of_one_size, scaled
from infobatch.lab.data.segmentation import IGNORED

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(camvid_folder):
    return load_data("camvid", camvid_folder)


def test_a_crop_depends_on_seed_epoch_and_index_alone(data):
    def crops(seed, epoch):
        made = TrainCrops(data.train, None, Cropping(32, (0.5, 2.0)), seed)
        made.begin(epoch)
        return [made[i] for i in (5, 3)]

    first, again = crops(0, 1), crops(0, 1)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    for other in (crops(1, 1), crops(0, 2)):
        assert not torch.equal(first[0][0], other[0][0])


def test_pixels_and_classes_are_cut_alike(data):
    """The greys are those of the classes, but where they are mixed at an edge."""
    crops = TrainCrops(data.train, None, Cropping(32, (0.7, 1.5)), 0)
    for i in range(20):
        pixels, classes = crops[i]
        assert pixels.shape == (3, 32, 32)
        labelled = classes != IGNORED
        off = (pixels[0][labelled].int() - 50 * classes[labelled].int()).abs() > 8
        assert off.float().mean() < 0.15


def test_what_a_small_image_lacks_is_ignored(data):
    crops = TrainCrops(data.train, None, Cropping(64, (1.0, 1.0)), 0)
    pixels, classes = crops[0]
    assert (classes[36:] == IGNORED).all()
    assert (classes[:, 44:] == IGNORED).all()
    assert pixels[:, 60, 60].tolist() == [124, 116, 104]
    assert (classes[1:36, :44] != IGNORED).all()


def test_a_crop_is_not_filled_by_one_class_where_another_is_near(data):
    def shares(largest):
        crops = TrainCrops(data.train, None, Cropping(32, (2.0, 2.0), largest), 0)
        counts = [np.bincount(crops[i][1].numpy().ravel(), minlength=256)[:11] for i in range(20)]
        return [c.max() / c.sum() for c in counts]

    assert max(shares(1.0)) > 0.9 > max(shares(0.8))


def test_the_short_side_is_what_scales_are_relative_to():
    assert scaled((640, 480), 512) == (683, 512)
    assert scaled((300, 600), 512, 0.5) == (256, 512)
    assert scaled((240, 180), None, 1.5) == (360, 270)


def test_test_images_are_whole_and_each_is_seen_once(tmp_path):
    write(tmp_path / "camvid" / "train.parquet", rows(5))
    write(tmp_path / "camvid" / "test.parquet", [*rows(4), *rows(2, (52, 40)), *rows(7)])
    data = load_data("camvid", tmp_path)
    feed = CropFeed(data, Cropping(32, (1.0, 1.0)), CPU, 0, 0)
    for num_replicas in (1, 2):
        seen = [
            classes
            for rank in range(num_replicas)
            for _, labels in feed.test_batches(Replicas(rank, num_replicas))
            for classes in labels
        ]
        assert len(seen) == 13
        assert sorted(c.shape for c in seen).count((40, 52)) == 2
    plain = list(feed.plain_batches(2, Replicas()))
    assert torch.cat([indices for indices, _ in plain]).tolist() == [0, 1, 2, 3, 4]
    groups = of_one_size(np.array([[1, 2], [3, 4], [1, 2], [1, 2]]), 2)
    assert [group.tolist() for group in groups] == [[0, 2], [3], [1]]
